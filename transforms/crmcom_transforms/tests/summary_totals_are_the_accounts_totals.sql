with as_of as (

    select * from {{ ref('int_crmcom__as_of') }}

),

accounts as (

    select
        daily.source_relation,
        daily.currency_code,
        sum(case when daily.presence = 'present' then 1 else 0 end) as accounts,
        coalesce(sum(daily.receivable), 0) as receivable,
        coalesce(sum(daily.credit), 0) as credit,
        coalesce(sum(daily.balance), 0) as net_balance,
        coalesce(sum(daily.overdue_gross), 0) as overdue_gross,
        coalesce(sum(daily.overdue_net), 0) as overdue_net
    from {{ ref('crmcom__account_daily') }} as daily
    inner join as_of
        on
            daily.source_relation = as_of.source_relation
            and daily.date_day = as_of.as_of_date
    group by daily.source_relation, daily.currency_code

),

summary as (

    select
        source_relation,
        currency_code,
        sum(accounts) as accounts,
        sum(receivable) as receivable,
        sum(credit) as credit,
        sum(net_balance) as net_balance,
        sum(overdue_gross) as overdue_gross,
        sum(overdue_net) as overdue_net
    from {{ ref('crmcom__balance_summary') }}
    group by source_relation, currency_code

),

final as (

    select
        accounts.source_relation,
        accounts.currency_code,
        accounts.net_balance as net_balance_of_accounts,
        summary.net_balance as net_balance_of_summary
    from accounts
    full outer join summary
        on
            accounts.source_relation = summary.source_relation
            and accounts.currency_code = summary.currency_code
    where
        -- A currency whose accounts are all missing has no row in the summary.
        coalesce(accounts.accounts, 0) <> coalesce(summary.accounts, 0)
        or coalesce(accounts.receivable, 0) <> coalesce(summary.receivable, 0)
        or coalesce(accounts.credit, 0) <> coalesce(summary.credit, 0)
        or coalesce(accounts.net_balance, 0) <> coalesce(summary.net_balance, 0)
        or coalesce(accounts.overdue_gross, 0) <> coalesce(summary.overdue_gross, 0)
        or coalesce(accounts.overdue_net, 0) <> coalesce(summary.overdue_net, 0)

)

select * from final
