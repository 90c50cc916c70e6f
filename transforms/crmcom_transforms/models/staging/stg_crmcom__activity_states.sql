with raw_rows as (

    {{ raw('activity_states') }}

),

final as (

    select
        -- ids
        source_relation,
        activity_id,

        -- text
        upper({{ text_or_null('state') }}) as state,

        -- numerics
        position,

        -- timestamps
        date as entered_at,
        _synced_at as synced_at
    from raw_rows

)

select * from final
