{#
    What moves the amounts of accounts, for the reports of movements; of all days, or of those from
    `first_day` to `last_day` (SQL dates).
#}
{% macro amount_moves(first_day=none, last_day=none) -%}
with changes as (

    select
        source_relation,
        account_id,
        date_day,
        currency_before,
        currency_code,
        has_returned,
        coalesce(state, '') = 'TERMINATED' and coalesce(state_before, '') <> 'TERMINATED'
            as is_terminated,
        balance_before,
        balance,
        overdue_before,
        overdue
    from {{ crmcom_transforms.without_catalog(ref('int_crmcom__account_changes')) }}
    where {{ crmcom_transforms.is_within('date_day', first_day, last_day) }}

),

-- The end of a series in the old currency, where it changed, and all else in the current one.
steps as (

    {%- for measure in ['balance', 'overdue'] %}
    select
        source_relation,
        account_id,
        date_day,
        currency_before as currency_code,
        '{{ measure }}' as measure,
        false as has_returned,
        false as is_terminated,
        {{ measure }}_before as opening,
        cast(null as decimal(38, 4)) as closing
    from changes
    where
        currency_before <> currency_code
        and {{ measure }}_before is not null

    union all

    select
        source_relation,
        account_id,
        date_day,
        currency_code,
        '{{ measure }}' as measure,
        has_returned,
        is_terminated,
        case when currency_before = currency_code then {{ measure }}_before end as opening,
        {{ measure }} as closing
    from changes
    {%- if not loop.last %}

    union all
    {% endif %}
    {%- endfor %}

),

final as (

    select
        source_relation,
        account_id,
        date_day,
        currency_code,
        measure,
        coalesce(opening, 0) as opening,
        case when opening is null and not has_returned then closing else 0 end as new,
        case when opening is null and has_returned then closing else 0 end as reappeared,
        case when closing > opening and not is_terminated then closing - opening else 0 end as increase,
        case when closing < opening and not is_terminated then opening - closing else 0 end as decrease,
        case when is_terminated then coalesce(opening - closing, 0) else 0 end
            as terminated_out,
        case when closing is null then opening else 0 end as disappeared,
        closing is null as is_gone
    from steps
    where
        opening is not null
        or closing is not null

)

select * from final
{%- endmacro %}
