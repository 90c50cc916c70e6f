with raw_rows as (

    {{ raw('contact_custom_fields') }}

),

final as (

    select
        -- ids
        source_relation,
        contact_id,

        -- text
        key as custom_field_key,
        value as custom_field_value,

        -- numerics
        position,

        -- timestamps
        _synced_at as synced_at
    from raw_rows

)

select * from final
