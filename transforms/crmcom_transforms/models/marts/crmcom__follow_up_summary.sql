{{ config(alias='follow_up_summary') }}

{%- set counts = {
    'total': '1 = 1',
    'pending': "state = 'PENDING'",
    'overdue': 'is_overdue',
    'completed': "state = 'COMPLETED'",
    'cancelled': "state = 'CANCELLED'",
    'on_time': 'is_on_time',
    'late': 'not is_on_time',
    'reopened': 'reopen_count > 0',
    'unknown_history': 'not is_history_known',
} -%}

with activities as (

    select * from {{ ref('crmcom__activity_status') }}
    where not is_deleted

),

counted as (

    select
        source_relation,
        as_of_date,
        team_id,
        user_id,
        type_name,
        max(team_name) as team_name,
        {%- for name, condition in counts.items() %}
        cast(sum(case when {{ condition }} then 1 else 0 end) as integer) as {{ name }},
        {%- endfor %}
        max(user_name) as user_name
    from activities
    group by source_relation, as_of_date, team_id, user_id, type_name

),

final as (

    select
        source_relation,
        as_of_date,
        team_id,
        team_name,
        user_id,
        user_name,
        type_name,
        {%- for name in counts %}
        {{ name }},
        {%- endfor %}
        {{ ratio('on_time', '(on_time + late)') }} as sla
    from counted

)

select * from final
