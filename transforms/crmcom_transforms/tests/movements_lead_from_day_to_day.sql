-- What a day opens with is what the day before closed with, and the rest explains the difference.

with days as (

    select
        *,
        lag(period_start_date) over (
            partition by source_relation, account_id, currency_code, measure
            order by period_start_date
        ) as date_before,
        lag(closing) over (
            partition by source_relation, account_id, currency_code, measure
            order by period_start_date
        ) as closing_before
    from {{ ref('crmcom__balance_movement') }}
    where
        period = 'day'
        and period_start_date >= {{ add_days(first_built_day(), -1) }}

),

final as (

    select
        source_relation,
        account_id,
        currency_code,
        measure,
        period_start_date,
        date_before,
        closing_before,
        opening,
        closing
    from days
    where
        period_start_date >= {{ first_built_day() }}
        and (
            opening <> case
                when period_start_date = {{ add_days('date_before', 1) }} then closing_before
                else 0
            end
            or opening + new + reappeared + increase - decrease - terminated_out - disappeared <> closing
            or increase < 0
            or decrease < 0
        )

)

select * from final
