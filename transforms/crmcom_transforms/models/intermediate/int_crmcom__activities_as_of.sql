{{ config(materialized='table') }}

{#-
    Today's activities are in `activities`; the past is told by `activity_versions`, which keeps
    each change but no names, and by the states that an activity has passed through.
-#}
{%- set is_past = var('crmcom_as_of', none) is not none or var('crmcom_known_at', none) is not none -%}

with as_of as (

    select * from {{ ref('int_crmcom__as_of') }}

),

current_activities as (

    select * from {{ ref('stg_crmcom__activities') }}

),

{% if is_past -%}
versions as (

    select
        versions.*,
        row_number() over (
            partition by versions.source_relation, versions.activity_id
            order by versions.observed_at desc, versions.run_id desc
        ) as recency
    from {{ ref('stg_crmcom__activity_versions') }} as versions
    inner join as_of
        on versions.source_relation = as_of.source_relation
    where
        {{ is_known('versions.synced_at') }}
        and {{ local_date('versions.observed_at') }} <= as_of.as_of_date

),

activities as (

    select
        source_relation,
        activity_id,
        contact_id,
        user_id,
        team_id,
        state,
        type_name,
        is_deleted,
        scheduled_from,
        scheduled_to
    from versions
    where recency = 1

),

{% else -%}
activities as (

    select
        source_relation,
        activity_id,
        contact_id,
        user_id,
        team_id,
        state,
        type_name,
        is_deleted,
        scheduled_from,
        scheduled_to
    from current_activities

),

{% endif -%}
contacts as (

    select * from {{ ref('stg_crmcom__contacts') }}

),

-- Where a name was changed, some activities may still have the old one: the last read holds.
users as (

    select
        source_relation,
        user_id,
        user_name,
        row_number() over (
            partition by source_relation, user_id
            order by synced_at desc, {{ by_code_points('activity_id') }} desc
        ) as recency
    from current_activities
    where user_name is not null

),

teams as (

    select
        source_relation,
        team_id,
        team_name,
        row_number() over (
            partition by source_relation, team_id
            order by synced_at desc, {{ by_code_points('activity_id') }} desc
        ) as recency
    from current_activities
    where team_name is not null

),

tags as (

    select
        source_relation,
        activity_id,
        {{ list_texts('tag_name', 'position') }} as tags
    from {{ ref('stg_crmcom__activity_tags') }}
    group by source_relation, activity_id

),

states as (

    select
        states.source_relation,
        states.activity_id,
        states.state,
        states.entered_at,
        lag(states.state) over (
            partition by states.source_relation, states.activity_id
            order by states.entered_at asc, states.position asc
        ) as state_before,
        row_number() over (
            partition by states.source_relation, states.activity_id
            order by states.entered_at desc, states.position desc
        ) as recency
    from {{ ref('stg_crmcom__activity_states') }} as states
    {% if is_past -%}
    inner join as_of
        on states.source_relation = as_of.source_relation
    where
        {{ is_known('states.synced_at') }}
        and {{ local_date('states.entered_at') }} <= as_of.as_of_date
    {%- endif %}

),

state_histories as (

    select
        source_relation,
        activity_id,
        max(case when recency = 1 then state end) as last_state,
        max(case when state = 'COMPLETED' then entered_at end) as completed_at,
        sum(case when state = 'PENDING' and coalesce(state_before, '') <> 'PENDING' then 1 else 0 end)
            as times_pending
    from states
    group by source_relation, activity_id

),

final as (

    select
        activities.source_relation,
        as_of.as_of_date,
        activities.activity_id,
        activities.contact_id,
        activities.user_id,
        activities.team_id,
        coalesce(contacts.contact_name, current_activities.contact_name) as contact_name,
        users.user_name,
        teams.team_name,
        activities.type_name,
        tags.tags,
        activities.state,
        state_histories.times_pending,
        activities.is_deleted or coalesce(
            {{ local_date('current_activities.deleted_at') }} <= as_of.as_of_date
            and {{ is_known('current_activities.deleted_at') }},
            false
        ) as is_deleted,
        -- A history that ends in another state was read before the last change.
        coalesce(state_histories.last_state = activities.state, false) as is_history_known,
        activities.scheduled_from,
        activities.scheduled_to,
        coalesce(activities.scheduled_to, activities.scheduled_from) as due_at,
        {{ local_date('coalesce(activities.scheduled_to, activities.scheduled_from)') }} as due_date,
        {{ local_date('state_histories.completed_at') }} as completed_date
    from activities
    inner join as_of
        on activities.source_relation = as_of.source_relation
    left join current_activities
        on
            activities.source_relation = current_activities.source_relation
            and activities.activity_id = current_activities.activity_id
    left join contacts
        on
            activities.source_relation = contacts.source_relation
            and activities.contact_id = contacts.contact_id
    left join users
        on
            activities.source_relation = users.source_relation
            and activities.user_id = users.user_id
            and users.recency = 1
    left join teams
        on
            activities.source_relation = teams.source_relation
            and activities.team_id = teams.team_id
            and teams.recency = 1
    left join tags
        on
            activities.source_relation = tags.source_relation
            and activities.activity_id = tags.activity_id
    left join state_histories
        on
            activities.source_relation = state_histories.source_relation
            and activities.activity_id = state_histories.activity_id

)

select * from final
