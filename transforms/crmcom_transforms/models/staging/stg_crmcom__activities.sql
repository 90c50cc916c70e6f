with raw_rows as (

    {{ raw('activities') }}

),

final as (

    select
        -- ids
        source_relation,
        id as activity_id,
        contact__id as contact_id,
        type__id as type_id,
        assign_to__user__id as user_id,
        assign_to__team__id as team_id,
        lead__id as lead_id,
        service_request__id as service_request_id,
        order__id as order_id,
        address__google_place_id as address_google_place_id,

        -- text
        name as activity_name,
        description,
        upper({{ text_or_null('state') }}) as state,
        type__name as type_name,
        type__color as type_color,
        contact__name as contact_name,
        contact__code as contact_code,
        assign_to__user__name as user_name,
        assign_to__user__username as user_username,
        assign_to__team__name as team_name,
        lead__title as lead_title,
        service_request__number as service_request_number,
        order__number as order_number,
        address__address_line_1 as address_line_1,
        address__address_line_2 as address_line_2,
        address__state_province_county as address_state_province_county,
        address__town_city as address_town_city,
        address__postal_code as address_postal_code,
        address__country as address_country,

        -- numerics
        address__lat as address_latitude,
        address__lon as address_longitude,

        -- booleans
        _deleted_at is not null as is_deleted,

        -- timestamps
        key_dates__created_on as created_at,
        key_dates__scheduled_on__from_date as scheduled_from,
        key_dates__scheduled_on__to_date as scheduled_to,
        _synced_at as synced_at,
        _deleted_at as deleted_at
    from raw_rows

)

select * from final
