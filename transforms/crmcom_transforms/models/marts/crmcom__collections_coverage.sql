{{ config(alias='collections_coverage') }}

{%- set follow_up_types = var('crmcom_follow_up_types', []) -%}

with as_of as (

    select * from {{ ref('int_crmcom__as_of') }}

),

overdue as (

    select
        daily.source_relation,
        as_of.as_of_date,
        daily.account_id,
        daily.account_number,
        daily.contact_id,
        daily.currency_code
    from {{ ref('crmcom__account_daily') }} as daily
    inner join as_of
        on
            daily.source_relation = as_of.source_relation
            and daily.date_day = as_of.as_of_date
    where daily.overdue_gross > 0

),

pending as (

    select * from {{ ref('int_crmcom__activities_as_of') }}
    where
        state = 'PENDING'
        and not is_deleted
        {%- if follow_up_types %}
        and type_name in {{ text_list(follow_up_types) }}
        {%- endif %}

),

-- The link is the contact: activities name no account.
follow_ups as (

    select
        source_relation,
        contact_id,
        min(case when due_date >= as_of_date then due_date end) as next_due_date
    from pending
    where contact_id is not null
    group by source_relation, contact_id

),

final as (

    select
        overdue.source_relation,
        overdue.as_of_date,
        overdue.account_id,
        overdue.account_number,
        overdue.contact_id,
        overdue.currency_code,
        case
            when overdue.contact_id is null then 'unlinkable'
            when follow_ups.contact_id is null then 'uncovered'
            when follow_ups.next_due_date is null then 'stale'
            else 'covered'
        end as status,
        follow_ups.next_due_date
    from overdue
    left join follow_ups
        on
            overdue.source_relation = follow_ups.source_relation
            and overdue.contact_id = follow_ups.contact_id

)

select * from final
