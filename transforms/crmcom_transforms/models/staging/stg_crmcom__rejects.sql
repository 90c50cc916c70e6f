with raw_rows as (

    {{ raw('_rejects') }}

),

final as (

    select
        -- ids
        source_relation,
        run_id,
        record_id,

        -- text
        resource,
        reason,
        payload,

        -- timestamps
        _synced_at as synced_at
    from raw_rows

)

select * from final
