{{ config(alias='balance_summary') }}

with as_of as (

    select * from {{ ref('int_crmcom__as_of') }}

),

accounts as (

    select
        daily.*,
        as_of.as_of_date
    from {{ ref('crmcom__account_daily') }} as daily
    inner join as_of
        on
            daily.source_relation = as_of.source_relation
            and daily.date_day = as_of.as_of_date
    where daily.presence = 'present'

),

totals as (

    select
        source_relation,
        as_of_date,
        currency_code,
        classification,
        state,
        count(*) as accounts,
        sum(case when overdue_gross > 0 then 1 else 0 end) as overdue_accounts,
        sum(case when balance is null or overdue_gross is null then 1 else 0 end)
            as unknown_accounts,
        sum(case when is_balance_carried or is_overdue_carried then 1 else 0 end)
            as carried_accounts,
        coalesce(sum(receivable), 0) as receivable,
        coalesce(sum(credit), 0) as credit,
        coalesce(sum(balance), 0) as net_balance,
        coalesce(sum(overdue_gross), 0) as overdue_gross,
        coalesce(sum(overdue_net), 0) as overdue_net
    from accounts
    group by source_relation, as_of_date, currency_code, classification, state

),

final as (

    select
        source_relation,
        as_of_date,
        currency_code,
        classification,
        state,
        cast(accounts as integer) as accounts,
        cast(overdue_accounts as integer) as overdue_accounts,
        cast(unknown_accounts as integer) as unknown_accounts,
        cast(carried_accounts as integer) as carried_accounts,
        {{ money('receivable') }} as receivable,
        {{ money('credit') }} as credit,
        {{ money('net_balance') }} as net_balance,
        {{ money('overdue_gross') }} as overdue_gross,
        {{ money('overdue_net') }} as overdue_net,
        {{ ratio('overdue_net', 'receivable') }} as overdue_ratio
    from totals

)

select * from final
