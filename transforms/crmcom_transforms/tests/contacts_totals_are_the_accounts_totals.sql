with as_of as (

    select * from {{ ref('int_crmcom__as_of') }}

),

accounts as (

    select
        daily.source_relation,
        daily.currency_code,
        count(*) as accounts,
        coalesce(sum(daily.balance), 0) as balance,
        coalesce(sum(daily.overdue_gross), 0) as overdue_gross
    from {{ ref('crmcom__account_daily') }} as daily
    inner join as_of
        on
            daily.source_relation = as_of.source_relation
            and daily.date_day = as_of.as_of_date
    where
        daily.presence = 'present'
        and daily.contact_id is not null
    group by daily.source_relation, daily.currency_code

),

contacts as (

    select
        source_relation,
        currency_code,
        sum(accounts) as accounts,
        sum(balance) as balance,
        sum(overdue_gross) as overdue_gross
    from {{ ref('crmcom__contact_balances') }}
    group by source_relation, currency_code

),

final as (

    select
        coalesce(accounts.source_relation, contacts.source_relation) as source_relation,
        coalesce(accounts.currency_code, contacts.currency_code) as currency_code,
        accounts.balance as balance_of_accounts,
        contacts.balance as balance_of_contacts
    from accounts
    full outer join contacts
        on
            accounts.source_relation = contacts.source_relation
            and accounts.currency_code = contacts.currency_code
    where
        accounts.accounts is distinct from contacts.accounts
        or accounts.balance is distinct from contacts.balance
        or accounts.overdue_gross is distinct from contacts.overdue_gross

)

select * from final
