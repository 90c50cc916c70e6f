{{ config(alias='contact_360') }}

{#-
    Of a contact without accounts and activities nobody can tell whether it was there on a past day.
-#}
{%- set is_past = var('crmcom_as_of', none) is not none or var('crmcom_known_at', none) is not none -%}
{%- set money_columns = ['balance', 'receivable', 'credit', 'overdue_gross', 'overdue_net'] -%}

with as_of as (

    select * from {{ ref('int_crmcom__as_of') }}

),

contacts as (

    select * from {{ ref('stg_crmcom__contacts') }}

),

balances as (

    select
        source_relation,
        contact_id,
        sum(accounts) as accounts,
        count(*) as currencies,
        {%- for column in money_columns %}
        min({{ column }}) as {{ column }},
        {%- endfor %}
        min(currency_code) as currency_code
    from {{ ref('crmcom__contact_balances') }}
    group by source_relation, contact_id

),

activities as (

    select
        source_relation,
        contact_id,
        sum(case when state = 'PENDING' then 1 else 0 end) as pending_activities,
        sum(case when is_overdue then 1 else 0 end) as overdue_activities,
        max(completed_date) as last_completed_date
    from {{ ref('crmcom__activity_status') }}
    where
        not is_deleted
        and contact_id is not null
    group by source_relation, contact_id

),

-- Accounts and activities may name contacts that were not loaded.
named as (

    select
        source_relation,
        contact_id
    from balances

    union distinct

    select
        source_relation,
        contact_id
    from activities
    {%- if not is_past %}

    union distinct

    select
        source_relation,
        contact_id
    from contacts
    {%- endif %}

),

final as (

    select
        named.source_relation,
        as_of.as_of_date,
        named.contact_id,
        contacts.contact_name,
        coalesce({{ local_date('contacts.deleted_at') }} <= as_of.as_of_date, false) as is_deleted,
        cast(coalesce(balances.accounts, 0) as integer) as accounts,
        cast(coalesce(balances.currencies, 0) as integer) as currencies,
        case when balances.currencies = 1 then balances.currency_code end as currency_code,
        {%- for column in money_columns %}
        case when balances.currencies = 1 then balances.{{ column }} end as {{ column }},
        {%- endfor %}
        cast(coalesce(activities.pending_activities, 0) as integer) as pending_activities,
        cast(coalesce(activities.overdue_activities, 0) as integer) as overdue_activities,
        activities.last_completed_date
    from named
    inner join as_of
        on named.source_relation = as_of.source_relation
    left join contacts
        on
            named.source_relation = contacts.source_relation
            and named.contact_id = contacts.contact_id
    left join balances
        on
            named.source_relation = balances.source_relation
            and named.contact_id = balances.contact_id
    left join activities
        on
            named.source_relation = activities.source_relation
            and named.contact_id = activities.contact_id

)

select * from final
