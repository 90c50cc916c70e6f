with worklist as (

    select * from {{ ref('crmcom__overdue_worklist') }}

),

coverage as (

    select * from {{ ref('crmcom__collections_coverage') }}

),

final as (

    select
        coalesce(worklist.source_relation, coverage.source_relation) as source_relation,
        coalesce(worklist.account_id, coverage.account_id) as account_id,
        worklist.coverage_status,
        coverage.status
    from worklist
    full outer join coverage
        on
            worklist.source_relation = coverage.source_relation
            and worklist.as_of_date = coverage.as_of_date
            and worklist.account_id = coverage.account_id
    where
        worklist.coverage_status is distinct from coverage.status
        or worklist.next_due_date is distinct from coverage.next_due_date

)

select * from final
