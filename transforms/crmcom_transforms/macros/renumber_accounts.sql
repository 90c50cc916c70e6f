{#
    An account has one number, its current one, on every day: where the number changed since the
    last build, the days that were built before get it too. The day before the built ones shows
    which changed.
#}
{% macro renumber_accounts() -%}
    {{ adapter.dispatch('renumber_accounts', 'crmcom_transforms')() }}
{%- endmacro %}

{# Where every day is built again, every day has the number. #}
{% macro spark__renumber_accounts() -%}
{%- endmacro %}

{% macro default__renumber_accounts() -%}
    update {{ this }} as days
    set account_number = renumbered.account_number
    from (
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
    ) as renumbered
    where
        days.source_relation = renumbered.source_relation
        and days.account_id = renumbered.account_id
{%- endmacro %}
