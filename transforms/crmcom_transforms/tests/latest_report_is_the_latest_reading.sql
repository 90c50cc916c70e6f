-- What was read on the day of the reports stands in them as it was read.

with as_of as (

    select * from {{ ref('int_crmcom__as_of') }}

),

readings as (

    select * from {{ ref('stg_crmcom__account_observations') }}
    where
        {{ read_since('select source_relation, as_of_date from ' ~ ref('int_crmcom__as_of')) }}
        and {{ is_known('synced_at') }}

),

ranked as (

    select
        readings.*,
        as_of.as_of_date,
        row_number() over (
            partition by readings.source_relation, readings.account_id
            order by readings.observed_at desc, readings.run_id desc
        ) as recency
    from readings
    inner join as_of
        on
            readings.source_relation = as_of.source_relation
            and {{ local_date('readings.observed_at') }} = as_of.as_of_date

),

daily as (

    select * from {{ ref('crmcom__account_daily') }}

),

final as (

    select
        ranked.source_relation,
        ranked.account_id,
        ranked.balance as balance_read,
        daily.balance,
        ranked.overdue_amount as overdue_read,
        daily.overdue_gross
    from ranked
    left join daily
        on
            ranked.source_relation = daily.source_relation
            and ranked.account_id = daily.account_id
            and ranked.as_of_date = daily.date_day
    where
        ranked.recency = 1
        and (
            daily.account_id is null
            or not daily.is_observed
            or (daily.presence = 'missing') <> ranked.is_missing
            or (
                not ranked.is_missing
                and (
                    daily.balance <> {{ money('ranked.balance') }}
                    or daily.overdue_gross <> {{ money(positive_part('ranked.overdue_amount')) }}
                    or daily.currency_code <> coalesce(ranked.currency_code, 'XXX')
                )
            )
        )

)

select * from final
