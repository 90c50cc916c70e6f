{{ config(
    alias='contact_custom_fields',
    enabled=custom_fields_of('contacts') | length > 0,
) }}

with final as (

    {{ pivot_custom_fields(
        ref('stg_crmcom__contact_custom_fields'), 'contact_id', custom_fields_of('contacts')
    ) }}

)

select * from final
