with accounts as (

    select
        source_relation,
        date_day,
        currency_code,
        coalesce(sum(overdue_gross), 0) as overdue_gross
    from {{ ref('crmcom__account_daily') }}
    where
        date_day >= {{ add_days(first_built_day(), -1) }}
        and presence = 'present'
    group by source_relation, date_day, currency_code

),

days as (

    select * from {{ ref('crmcom__overdue_kpis') }}
    where
        period = 'day'
        and period_start_date >= {{ first_built_day() }}

),

final as (

    select
        days.source_relation,
        days.currency_code,
        days.period_start_date,
        yesterday.overdue_gross as overdue_before,
        days.opening_overdue,
        days.closing_overdue,
        today.overdue_gross
    from days
    left join accounts as today
        on
            days.source_relation = today.source_relation
            and days.period_start_date = today.date_day
            and days.currency_code = today.currency_code
    left join accounts as yesterday
        on
            days.source_relation = yesterday.source_relation
            and days.period_start_date = {{ add_days('yesterday.date_day', 1) }}
            and days.currency_code = yesterday.currency_code
    where
        days.opening_overdue + days.entered - days.cleared <> days.closing_overdue
        or days.opening_overdue <> coalesce(yesterday.overdue_gross, 0)
        or days.closing_overdue <> coalesce(today.overdue_gross, 0)

)

select * from final
