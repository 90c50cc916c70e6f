{{ config(
    alias='activity_custom_fields',
    enabled=custom_fields_of('activities') | length > 0,
) }}

with final as (

    {{ pivot_custom_fields(
        ref('stg_crmcom__activity_custom_fields'), 'activity_id', custom_fields_of('activities')
    ) }}

)

select * from final
