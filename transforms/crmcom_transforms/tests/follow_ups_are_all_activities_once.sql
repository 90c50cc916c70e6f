with activities as (

    select
        source_relation,
        count(*) as total,
        sum(case when state in ('PENDING', 'COMPLETED', 'CANCELLED') then 1 else 0 end) as in_known_states,
        sum(case when is_overdue then 1 else 0 end) as overdue
    from {{ ref('crmcom__activity_status') }}
    where not is_deleted
    group by source_relation

),

summary as (

    select
        source_relation,
        sum(total) as total,
        sum(pending + completed + cancelled) as in_known_states,
        sum(overdue) as overdue
    from {{ ref('crmcom__follow_up_summary') }}
    group by source_relation

),

final as (

    select
        coalesce(activities.source_relation, summary.source_relation) as source_relation,
        activities.total as activities,
        summary.total
    from activities
    full outer join summary
        on activities.source_relation = summary.source_relation
    where
        activities.total is distinct from summary.total
        or activities.in_known_states is distinct from summary.in_known_states
        or activities.overdue is distinct from summary.overdue

)

select * from final
