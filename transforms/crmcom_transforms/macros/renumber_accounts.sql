{#
    An account has one number, its current one, on every day: where the number changed since the
    last build, the days that were built before get it too. The day before the built ones shows
    which changed; mostly none, and then nothing is said, since an update reads all of history
    to find that out.
#}
{% macro renumber_accounts() -%}
    {%- set renumbered -%}
        select
            before.source_relation,
            before.account_id,
            accounts.account_number
        from {{ this }} as before
        inner join {{ ref('int_crmcom__account_daily_plan') }} as planned
            on
                before.source_relation = planned.source_relation
                and before.date_day = {{ crmcom_transforms.add_days('planned.build_from', -1) }}
        inner join {{ ref('stg_crmcom__accounts') }} as accounts
            on
                before.source_relation = accounts.source_relation
                and before.account_id = accounts.account_id
        where before.account_number is distinct from accounts.account_number
    {%- endset -%}
    {%- if execute and run_query('select 1 from (' ~ renumbered ~ ') as renumbered limit 1').rows -%}
    update {{ this }} as days
    set account_number = renumbered.account_number
    from ({{ renumbered }}) as renumbered
    where
        days.source_relation = renumbered.source_relation
        and days.account_id = renumbered.account_id
    {%- endif -%}
{%- endmacro %}
