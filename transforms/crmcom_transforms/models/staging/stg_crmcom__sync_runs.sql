with raw_rows as (

    {{ raw('_sync_runs') }}

),

final as (

    select
        -- ids
        source_relation,
        run_id,

        -- text
        resource,
        scope,
        verdict,

        -- numerics
        requests,
        retries,
        rows as row_count,
        rejected as rejected_count,

        -- timestamps
        started_at,
        finished_at,
        _synced_at as synced_at
    from raw_rows

)

select * from final
