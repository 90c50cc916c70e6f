{{ config(materialized='table') }}

with account_days as (

    select
        source_relation,
        min(first_date) as first_date,
        {{ local_date('max(last_observed_at)') }} as last_date
    from {{ ref('int_crmcom__reading_runs') }}
    group by source_relation

),

activity_days as (

    select
        source_relation,
        {{ local_date('max(observed_at)') }} as last_date
    from {{ ref('stg_crmcom__activity_versions') }}
    where {{ is_known('synced_at') }}
    group by source_relation

),

-- Activities that were listed again unchanged leave no version; where a tenant has no accounts
-- at all, the time of their loading is the only trace of the reading.
loaded_activity_days as (

    select
        source_relation,
        {{ local_date('max(synced_at)') }} as last_date
    from {{ ref('stg_crmcom__activities') }}
    where
        {{ is_known('synced_at') }}
        and source_relation not in (select account_days.source_relation from account_days)
    group by source_relation

),

days as (

    select
        source_relation,
        first_date as first_account_date,
        last_date
    from account_days

    union all

    select
        source_relation,
        cast(null as date) as first_account_date,
        last_date
    from activity_days

    union all

    select
        source_relation,
        cast(null as date) as first_account_date,
        last_date
    from loaded_activity_days

),

final as (

    select
        source_relation,
        coalesce({{ asked_as_of() }}, max(last_date)) as as_of_date,
        max(last_date) as last_observed_date,
        min(first_account_date) as first_account_date,
        {{ built_with() }} as built_with
    from days
    group by source_relation

)

select * from final
