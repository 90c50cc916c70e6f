{{ config(
    materialized='by_day',
    plan='int_crmcom__account_changes_plan',
    built_from='int_crmcom__reading_runs',
) }}

-- depends_on: {{ ref('int_crmcom__account_changes_plan') }}
-- depends_on: {{ ref('int_crmcom__reading_runs') }}

with days as (

    select
        source_relation,
        account_id,
        date_day,
        currency_code,
        state,
        presence,
        case when presence = 'present' then balance end as balance,
        case when presence = 'present' then overdue_gross end as overdue
    from {{ ref('crmcom__account_daily') }}
    where
        source_relation in {{ built_tenants() }}
        and date_day >= {{ day_before_built() }}
        and date_day <= {{ built_day() }}

),

today as (

    select * from days
    where date_day = {{ built_day() }}

),

yesterday as (

    select * from days
    where date_day = {{ day_before_built() }}

),

-- Once missing, an account's next first amount in that currency is no new one.
once_missing as (

    select distinct
        source_relation,
        account_id,
        currency_code
    from {{ this }}
    where
        presence = 'missing'
        and date_day < {{ built_day() }}

),

final as (

    select
        today.source_relation,
        today.account_id,
        today.date_day,
        yesterday.currency_code as currency_before,
        today.currency_code,
        yesterday.state as state_before,
        today.state,
        yesterday.presence as presence_before,
        today.presence,
        yesterday.balance as balance_before,
        today.balance,
        yesterday.overdue as overdue_before,
        today.overdue,
        once_missing.account_id is not null and today.currency_code = yesterday.currency_code
            as has_returned
    from today
    left join yesterday
        on
            today.source_relation = yesterday.source_relation
            and today.account_id = yesterday.account_id
    left join once_missing
        on
            today.source_relation = once_missing.source_relation
            and today.account_id = once_missing.account_id
            and today.currency_code = once_missing.currency_code
    where
        yesterday.account_id is null
        or today.currency_code <> yesterday.currency_code
        or today.presence <> yesterday.presence
        or today.state is distinct from yesterday.state
        or today.balance is distinct from yesterday.balance
        or today.overdue is distinct from yesterday.overdue

)

select * from final
