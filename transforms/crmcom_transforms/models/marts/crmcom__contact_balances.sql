{{ config(alias='contact_balances') }}

with as_of as (

    select * from {{ ref('int_crmcom__as_of') }}

),

final as (

    select
        daily.source_relation,
        as_of.as_of_date,
        daily.contact_id,
        daily.currency_code,
        cast(count(*) as integer) as accounts,
        cast(sum(case when daily.balance is null or daily.overdue_gross is null then 1 else 0 end) as integer)
            as unknown_accounts,
        {{ money('coalesce(sum(daily.balance), 0)') }} as balance,
        {{ money('coalesce(sum(daily.receivable), 0)') }} as receivable,
        {{ money('coalesce(sum(daily.credit), 0)') }} as credit,
        {{ money('coalesce(sum(daily.overdue_gross), 0)') }} as overdue_gross,
        {{ money('coalesce(sum(daily.overdue_net), 0)') }} as overdue_net
    from {{ ref('crmcom__account_daily') }} as daily
    inner join as_of
        on
            daily.source_relation = as_of.source_relation
            and daily.date_day = as_of.as_of_date
    where
        daily.presence = 'present'
        and daily.contact_id is not null
    group by daily.source_relation, as_of.as_of_date, daily.contact_id, daily.currency_code

)

select * from final
