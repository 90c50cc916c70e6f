{{ config(
    alias='account_daily',
    materialized='by_day',
    plan='int_crmcom__account_daily_plan',
    built_from='int_crmcom__reading_runs',
    post_hook='{{ crmcom_transforms.renumber_accounts() }}',
) }}

-- depends_on: {{ ref('int_crmcom__account_daily_plan') }}
-- depends_on: {{ ref('int_crmcom__reading_runs') }}

-- This is the step from one day to the next: `today` is what was read on the day, `yesterday`
-- the rows this model made for the day before.

with raw_readings as (

    select
        source_relation,
        account_id,
        contact_id,
        run_id,
        state,
        coalesce(currency_code, 'XXX') as currency_code,
        classification,
        {{ raw_money('balance') }} as balance,
        {{ raw_money('overdue_amount') }} as overdue_amount,
        {{ raw_money('credit_limit') }} as credit_limit,
        is_missing,
        observed_at
    from {{ ref('stg_crmcom__account_observations') }}
    where
        source_relation in {{ built_tenants() }}
        -- The bounds only spare reading the other days; the local date decides.
        and observed_at >= {{ add_hours(local_midnight(built_day()), -3) }}
        and observed_at < {{ add_hours(local_midnight(day_after_built()), 3) }}
        and {{ local_date('observed_at') }} = {{ built_day() }}
        and {{ is_known('synced_at') }}

),

readings as (

    select
        *,
        {{ positive_part('overdue_amount') }} as overdue_gross
    from raw_readings

),

read_often as (

    select
        source_relation,
        account_id
    from readings
    group by source_relation, account_id
    having count(*) > 1

),

-- Most accounts are read once a day: only the readings of the others have to be put in order.
ranked as (

    select
        readings.*,
        row_number() over (
            partition by readings.source_relation, readings.account_id, readings.is_missing
            order by readings.observed_at desc, readings.run_id desc
        ) as recency
    from readings
    inner join read_often
        on
            readings.source_relation = read_often.source_relation
            and readings.account_id = read_often.account_id

    union all

    select
        readings.*,
        1 as recency
    from readings
    left join read_often
        on
            readings.source_relation = read_often.source_relation
            and readings.account_id = read_often.account_id
    where read_often.account_id is null

),

last_present as (

    select * from ranked
    where recency = 1 and not is_missing

),

last_missing as (

    select * from ranked
    where recency = 1 and is_missing

),

-- A null amount was not observed: the day's earlier reading of the same currency still holds.
earlier_balances as (

    select
        ranked.source_relation,
        ranked.account_id,
        ranked.balance,
        row_number() over (
            partition by ranked.source_relation, ranked.account_id
            order by ranked.recency
        ) as recency
    from ranked
    inner join last_present
        on
            ranked.source_relation = last_present.source_relation
            and ranked.account_id = last_present.account_id
            and ranked.currency_code = last_present.currency_code
    where
        last_present.balance is null
        and ranked.balance is not null
        and not ranked.is_missing

),

earlier_overdue as (

    select
        ranked.source_relation,
        ranked.account_id,
        ranked.overdue_gross,
        row_number() over (
            partition by ranked.source_relation, ranked.account_id
            order by ranked.recency
        ) as recency
    from ranked
    inner join last_present
        on
            ranked.source_relation = last_present.source_relation
            and ranked.account_id = last_present.account_id
            and ranked.currency_code = last_present.currency_code
    where
        last_present.overdue_gross is null
        and ranked.overdue_gross is not null
        and not ranked.is_missing

),

today as (

    select
        coalesce(last_present.source_relation, last_missing.source_relation) as source_relation,
        coalesce(last_present.account_id, last_missing.account_id) as account_id,
        coalesce(last_present.contact_id, last_missing.contact_id) as contact_id,
        last_present.account_id is not null as was_seen,
        last_present.state,
        last_present.currency_code,
        last_present.classification,
        last_present.credit_limit,
        coalesce(last_present.balance, earlier_balances.balance) as balance,
        coalesce(last_present.overdue_gross, earlier_overdue.overdue_gross) as overdue_gross,
        case
            when last_missing.account_id is null then 'present'
            when last_present.account_id is null then 'missing'
            when last_present.observed_at > last_missing.observed_at then 'present'
            when last_present.observed_at < last_missing.observed_at then 'missing'
            when last_present.run_id > last_missing.run_id then 'present'
            else 'missing'
        end as presence
    from last_present
    full outer join last_missing
        on
            last_present.source_relation = last_missing.source_relation
            and last_present.account_id = last_missing.account_id
    left join earlier_balances
        on
            last_present.source_relation = earlier_balances.source_relation
            and last_present.account_id = earlier_balances.account_id
            and earlier_balances.recency = 1
    left join earlier_overdue
        on
            last_present.source_relation = earlier_overdue.source_relation
            and last_present.account_id = earlier_overdue.account_id
            and earlier_overdue.recency = 1

),

yesterday as (

    select * from {{ this }}
    where
        date_day = {{ day_before_built() }}
        and source_relation in {{ built_tenants() }}

),

-- A change of currency closes one series and opens another: nothing is carried across.
stepped as (

    select
        coalesce(today.source_relation, yesterday.source_relation) as source_relation,
        coalesce(today.account_id, yesterday.account_id) as account_id,
        coalesce(today.contact_id, yesterday.contact_id) as contact_id,
        coalesce(today.currency_code, yesterday.currency_code, 'XXX') as currency_code,
        case when today.was_seen then today.classification else yesterday.classification end
            as classification,
        case when today.was_seen then today.state else yesterday.state end as state,
        case when today.was_seen then today.credit_limit else yesterday.credit_limit end
            as credit_limit,
        coalesce(today.presence, yesterday.presence) as presence,
        today.account_id is not null as is_observed,
        case when today.account_id is not null then {{ built_day() }} else yesterday.last_observed_date end
            as last_observed_date,
        today.balance as balance_today,
        today.overdue_gross as overdue_today,
        coalesce(today.currency_code, yesterday.currency_code) = yesterday.currency_code
            as is_same_series,
        yesterday.presence = 'present' as was_present,
        yesterday.balance as balance_before,
        yesterday.last_known_balance as last_known_balance_before,
        yesterday.overdue_gross as overdue_before,
        yesterday.overdue_since_date as overdue_since_before,
        yesterday.last_not_overdue_date as last_not_overdue_before
    from today
    full outer join yesterday
        on
            today.source_relation = yesterday.source_relation
            and today.account_id = yesterday.account_id

),

-- A confirmed absence ends what was known: an account that returns is unknown until read.
amounts as (

    select
        *,
        case
            when presence = 'missing' then 0
            when balance_today is not null then balance_today
            when is_same_series and was_present then balance_before
        end as balance,
        case
            when presence = 'missing' then 0
            when overdue_today is not null then overdue_today
            when is_same_series and was_present then overdue_before
        end as overdue_gross,
        case
            when balance_today is not null then balance_today
            when is_same_series then last_known_balance_before
        end as last_known_balance,
        presence = 'present' and overdue_today is not null as is_overdue_read
    from stepped

),

streaks as (

    select
        *,
        {{ positive_part('balance') }} as receivable,
        {{ positive_part('-balance') }} as credit,
        case
            when overdue_gross > 0 and is_same_series and overdue_since_before is not null
                then overdue_since_before
            when overdue_gross > 0 then {{ built_day() }}
        end as overdue_since_date,
        case
            when is_overdue_read and overdue_gross = 0 then {{ built_day() }}
            when is_same_series then last_not_overdue_before
        end as last_not_overdue_date
    from amounts

),

aged as (

    select
        *,
        {{ smaller_of('overdue_gross', 'receivable') }} as overdue_net,
        {{ days_between('last_observed_date', built_day()) }} as days_since_observed,
        {{ days_between('overdue_since_date', built_day()) }} + 1 as days_overdue_min,
        case
            when overdue_since_date is not null
                then {{ days_between('last_not_overdue_date', built_day()) }}
        end as days_overdue_max,
        overdue_since_date is not null and last_not_overdue_date is null as is_start_censored
    from streaks

),

accounts as (

    select
        source_relation,
        account_id,
        account_number
    from {{ ref('stg_crmcom__accounts') }}

),

final as (

    select
        aged.source_relation,
        aged.account_id,
        {{ built_day() }} as date_day,
        accounts.account_number,
        aged.contact_id,
        aged.currency_code,
        aged.classification,
        aged.state,
        {{ money('aged.balance') }} as balance,
        {{ money('aged.receivable') }} as receivable,
        {{ money('aged.credit') }} as credit,
        {{ money('aged.overdue_gross') }} as overdue_gross,
        {{ money('aged.overdue_net') }} as overdue_net,
        {{ money('aged.credit_limit') }} as credit_limit,
        {{ money('aged.last_known_balance') }} as last_known_balance,
        aged.is_observed,
        aged.last_observed_date,
        aged.days_since_observed,
        aged.presence,
        aged.presence = 'present' and aged.balance_today is null and aged.balance is not null
            as is_balance_carried,
        aged.presence = 'present' and aged.overdue_today is null and aged.overdue_gross is not null
            as is_overdue_carried,
        aged.overdue_since_date,
        aged.last_not_overdue_date,
        cast(aged.days_overdue_min as integer) as days_overdue_min,
        aged.days_overdue_max,
        aged.is_start_censored,
        {{ age_bucket('aged.days_overdue_min', 'aged.is_start_censored') }} as bucket
    from aged
    left join accounts
        on
            aged.source_relation = accounts.source_relation
            and aged.account_id = accounts.account_id

)

select * from final
