with raw_rows as (

    {{ raw('contact_tags') }}

),

final as (

    select
        -- ids
        source_relation,
        contact_id,
        id as tag_id,

        -- text
        name as tag_name,
        colour as tag_colour,

        -- numerics
        position,

        -- timestamps
        _synced_at as synced_at
    from raw_rows

)

select * from final
