{#-
    Today's activities are in `activities`; the past is told by `activity_versions`, which keeps
    each change but neither names nor schedules that were never seen changing.
-#}
{%- set is_past = var('crmcom_as_of', none) is not none or var('crmcom_known_at', none) is not none -%}

with as_of as (

    select * from {{ ref('int_crmcom__as_of') }}

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
    from {{ ref('stg_crmcom__activities') }}

),

{% endif -%}
final as (

    select
        activities.source_relation,
        as_of.as_of_date,
        activities.activity_id,
        activities.contact_id,
        activities.user_id,
        activities.team_id,
        activities.state,
        activities.type_name,
        activities.is_deleted,
        coalesce(activities.scheduled_to, activities.scheduled_from) as due_at,
        {{ local_date('coalesce(activities.scheduled_to, activities.scheduled_from)') }} as due_date
    from activities
    inner join as_of
        on activities.source_relation = as_of.source_relation

)

select * from final
