with raw_rows as (

    {{ raw('accounts') }}

),

final as (

    select
        -- ids
        source_relation,
        id as account_id,
        contact_id,
        classification__id as classification_id,
        payment_terms__id as payment_terms_id,
        billing_address__id as billing_address_id,

        -- text
        number as account_number,
        name as account_name,
        upper({{ text_or_null('state') }}) as state,
        upper({{ text_or_null('currency_code') }}) as currency_code,
        classification__name as classification,
        payment_terms__name as payment_terms,
        billing_address__address_line_1 as billing_line_1,
        billing_address__address_line_2 as billing_line_2,
        billing_address__state_province_county as billing_state_province_county,
        billing_address__town_city as billing_town_city,
        billing_address__postal_code as billing_postal_code,
        billing_address__country_code as billing_country_code,

        -- numerics
        {{ owed('balance') }} as balance,
        overdue_amount,
        credit_limit,

        -- booleans
        is_primary,
        _deleted_at is not null as is_deleted,

        -- timestamps
        _synced_at as synced_at,
        _deleted_at as deleted_at
    from raw_rows

)

select * from final
