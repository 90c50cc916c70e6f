with as_of as (

    select * from {{ ref('int_crmcom__as_of') }}

),

overdue as (

    select
        daily.source_relation,
        daily.account_id
    from {{ ref('crmcom__account_daily') }} as daily
    inner join as_of
        on
            daily.source_relation = as_of.source_relation
            and daily.date_day = as_of.as_of_date
    where daily.overdue_gross > 0

),

listed as (

    select
        source_relation,
        account_id,
        count(*) as times
    from {{ ref('crmcom__overdue_worklist') }}
    group by source_relation, account_id

),

final as (

    select
        coalesce(overdue.source_relation, listed.source_relation) as source_relation,
        coalesce(overdue.account_id, listed.account_id) as account_id,
        listed.times
    from overdue
    full outer join listed
        on
            overdue.source_relation = listed.source_relation
            and overdue.account_id = listed.account_id
    where
        overdue.account_id is null
        or listed.times is distinct from 1

)

select * from final
