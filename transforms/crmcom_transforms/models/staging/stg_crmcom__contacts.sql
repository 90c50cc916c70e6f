with raw_rows as (

    {{ raw('contacts') }}

),

-- Blank text is no name: it must not hide the next one.
named as (

    select
        *,
        {{ text_or_null('name') }} as full_name,
        {{ text_or_null("coalesce(first_name, '') || ' ' || coalesce(last_name, '')") }}
            as person_name,
        {{ text_or_null('company_name') }} as company
    from raw_rows

),

final as (

    select
        -- ids
        source_relation,
        id as contact_id,

        -- text
        code as contact_code,
        type as contact_type,
        coalesce(full_name, person_name, company) as contact_name,
        first_name,
        middle_name,
        last_name,
        company_name,
        coalesce({{ text_or_null('email') }}, {{ text_or_null('email_address') }}) as email,
        phone__country_code as phone_country_code,
        phone__number as phone_number,
        language_code,

        -- booleans
        _deleted_at is not null as is_deleted,

        -- timestamps
        _synced_at as synced_at,
        _deleted_at as deleted_at
    from named

)

select * from final
