with raw_rows as (

    {{ raw('account_observations') }}

),

final as (

    select
        -- ids
        source_relation,
        account_id,
        contact_id,
        run_id,

        -- text
        upper({{ text_or_null('state') }}) as state,
        upper({{ text_or_null('currency_code') }}) as currency_code,
        classification__name as classification,
        payment_terms__name as payment_terms,

        -- numerics
        {{ owed('balance') }} as balance,
        overdue_amount,
        credit_limit,

        -- booleans
        coalesce(is_missing, false) as is_missing,

        -- timestamps
        observed_at,
        _synced_at as synced_at
    from raw_rows

)

select * from final
