with overdue as (

    select
        source_relation,
        account_id,
        currency_code,
        overdue_gross
    from {{ ref('crmcom__overdue_worklist') }}

),

aged as (

    select
        source_relation,
        account_id,
        currency_code,
        sum(amount) as amount
    from {{ ref('crmcom__overdue_ageing') }}
    group by source_relation, account_id, currency_code

),

final as (

    select
        coalesce(overdue.source_relation, aged.source_relation) as source_relation,
        coalesce(overdue.account_id, aged.account_id) as account_id,
        overdue.overdue_gross,
        aged.amount
    from overdue
    full outer join aged
        on
            overdue.source_relation = aged.source_relation
            and overdue.account_id = aged.account_id
            and overdue.currency_code = aged.currency_code
    where overdue.overdue_gross is distinct from aged.amount

)

select * from final
