with raw_rows as (

    {{ raw('activity_versions') }}

),

final as (

    select
        -- ids
        source_relation,
        activity_id,
        run_id,
        contact__id as contact_id,
        assign_to__user__id as user_id,
        assign_to__team__id as team_id,

        -- text
        upper({{ text_or_null('state') }}) as state,
        type__name as type_name,

        -- booleans
        coalesce(is_deleted, false) as is_deleted,

        -- timestamps
        scheduled_from,
        scheduled_to,
        observed_at,
        _synced_at as synced_at
    from raw_rows

)

select * from final
