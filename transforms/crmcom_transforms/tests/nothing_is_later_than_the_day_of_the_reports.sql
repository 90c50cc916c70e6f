with as_of as (

    select * from {{ ref('int_crmcom__as_of') }}

),

final as (

    select
        daily.source_relation,
        daily.account_id,
        daily.date_day
    from {{ ref('crmcom__account_daily') }} as daily
    inner join as_of
        on
            daily.source_relation = as_of.source_relation
            and daily.date_day > as_of.as_of_date

)

select * from final
