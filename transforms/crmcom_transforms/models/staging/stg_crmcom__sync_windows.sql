with raw_rows as (

    {{ raw('_sync_windows') }}

),

final as (

    select
        -- ids
        source_relation,
        run_id,

        -- text
        resource,
        verdict,

        -- numerics
        api_total,
        distinct_ids,
        rows_loaded as row_count,
        requests,
        retries,

        -- timestamps
        window_start,
        window_end,
        _synced_at as synced_at
    from raw_rows

)

select * from final
