{{ config(materialized='table') }}

{#- What is fresh was read in the 24 hours up to the end of one of these days. -#}
{%- set fresh_days -%}
    select
        source_relation,
        {{ add_days(smaller_of('as_of_date', 'last_observed_date'), -1) }} as first_day
    from {{ ref('int_crmcom__as_of') }}
{%- endset %}

with as_of as (

    select * from {{ ref('int_crmcom__as_of') }}

),

readings as (

    select
        source_relation,
        account_id,
        observed_at,
        balance is not null and not is_missing as has_balance
    from {{ ref('stg_crmcom__account_observations') }}
    where
        {{ read_since(fresh_days) }}
        and {{ is_known('synced_at') }}

),

observed as (

    select
        source_relation,
        max(last_observed_at) as observed_at
    from {{ ref('int_crmcom__reading_runs') }}
    group by source_relation

    union all

    select
        source_relation,
        max(observed_at) as observed_at
    from {{ ref('stg_crmcom__activity_versions') }}
    where {{ is_known('synced_at') }}
    group by source_relation

),

latest as (

    select
        source_relation,
        max(observed_at) as observed_at
    from observed
    group by source_relation

),

-- A past day is told as of its end.
moments as (

    select
        as_of.source_relation,
        as_of.as_of_date,
        {{ smaller_of('latest.observed_at', local_midnight(add_days('as_of.as_of_date', 1))) }}
            as fresh_until
    from as_of
    inner join latest on as_of.source_relation = latest.source_relation

),

fresh as (

    select distinct
        readings.source_relation,
        readings.account_id
    from readings
    inner join moments on readings.source_relation = moments.source_relation
    where
        readings.has_balance
        and readings.observed_at <= moments.fresh_until
        and readings.observed_at > {{ add_hours('moments.fresh_until', -24) }}

),

balances as (

    select
        daily.source_relation,
        daily.account_id
    from {{ ref('crmcom__account_daily') }} as daily
    inner join as_of
        on
            daily.source_relation = as_of.source_relation
            and daily.date_day = as_of.as_of_date
    where
        daily.presence = 'present'
        and daily.balance is not null

),

final as (

    select
        moments.source_relation,
        moments.as_of_date,
        moments.fresh_until,
        cast(count(balances.account_id) as integer) as balances,
        cast(count(fresh.account_id) as integer) as fresh_balances
    from moments
    left join balances on moments.source_relation = balances.source_relation
    left join fresh
        on
            balances.source_relation = fresh.source_relation
            and balances.account_id = fresh.account_id
    group by moments.source_relation, moments.as_of_date, moments.fresh_until

)

select * from final
