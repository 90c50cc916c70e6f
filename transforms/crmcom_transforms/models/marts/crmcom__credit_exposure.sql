{{ config(alias='credit_exposure') }}

with as_of as (

    select * from {{ ref('int_crmcom__as_of') }}

),

accounts as (

    select
        daily.*,
        as_of.as_of_date,
        {{ effective_limit('daily.credit_limit') }} as effective_limit
    from {{ ref('crmcom__account_daily') }} as daily
    inner join as_of
        on
            daily.source_relation = as_of.source_relation
            and daily.date_day = as_of.as_of_date
    where daily.presence = 'present'

),

final as (

    select
        source_relation,
        as_of_date,
        account_id,
        account_number,
        contact_id,
        state,
        currency_code,
        balance,
        receivable as exposure,
        credit_limit,
        case
            when credit_limit is null then 'none'
            when credit_limit = 0 then 'zero'
            when credit_limit > 0 then 'set'
            else 'invalid'
        end as limit_status,
        {{ ratio('receivable', 'effective_limit') }} as utilisation,
        case
            when coalesce(state, '') <> 'TERMINATED'
                then {{ money('effective_limit - balance') }}
        end as available,
        {{ money(positive_part('balance - effective_limit')) }} as over_limit
    from accounts

)

select * from final
