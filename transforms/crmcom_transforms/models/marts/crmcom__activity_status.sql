{{ config(alias='activity_status') }}

with activities as (

    select
        *,
        -- Deleted work is nobody's to do.
        state = 'PENDING' and not is_deleted and due_date < as_of_date as is_late,
        case when is_history_known and state = 'COMPLETED' then completed_date end
            as last_completed_date
    from {{ ref('int_crmcom__activities_as_of') }}

),

final as (

    select
        source_relation,
        as_of_date,
        activity_id,
        contact_id,
        contact_name,
        type_name,
        team_id,
        team_name,
        user_id,
        user_name,
        tags,
        state,
        due_at,
        coalesce(is_late, false) as is_overdue,
        case when is_late then {{ days_between('due_date', 'as_of_date') }} end as days_overdue,
        last_completed_date as completed_date,
        last_completed_date <= due_date as is_on_time,
        case
            when is_history_known and times_pending > 1 then cast(times_pending - 1 as integer)
            when is_history_known then 0
        end as reopen_count,
        is_deleted,
        due_at is null as is_unscheduled,
        is_history_known
    from activities

)

select * from final
