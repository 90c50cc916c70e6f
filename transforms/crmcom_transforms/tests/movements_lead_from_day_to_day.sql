-- What a day opens with is what the day before closed with, and the rest explains the difference.

with days as (

    select * from {{ ref('crmcom__balance_movement') }}
    where
        period = 'day'
        and period_start_date >= {{ add_days(first_built_day(), -1) }}

),

final as (

    select
        today.source_relation,
        today.account_id,
        today.currency_code,
        today.measure,
        today.period_start_date,
        today.opening,
        today.closing,
        yesterday.closing as closing_before
    from days as today
    left join days as yesterday
        on
            today.source_relation = yesterday.source_relation
            and today.account_id = yesterday.account_id
            and today.currency_code = yesterday.currency_code
            and today.measure = yesterday.measure
            and today.period_start_date = {{ add_days('yesterday.period_start_date', 1) }}
    where
        today.period_start_date >= {{ first_built_day() }}
        and (
            today.opening <> coalesce(yesterday.closing, 0)
            or today.opening + today.new + today.reappeared + today.increase - today.decrease
            - today.terminated_out - today.disappeared <> today.closing
            or today.increase < 0
            or today.decrease < 0
        )

)

select * from final
