{{ config(materialized='table') }}

with final as (

    select
        source_relation,
        run_id,
        count(*) as readings,
        {{ local_date('min(observed_at)') }} as first_date,
        max(observed_at) as last_observed_at,
        max(synced_at) as last_synced_at
    from {{ ref('stg_crmcom__account_observations') }}
    where {{ is_known('synced_at') }}
    group by source_relation, run_id

)

select * from final
