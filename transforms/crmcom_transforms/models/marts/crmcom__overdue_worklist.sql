{{ config(alias='overdue_worklist') }}

with as_of as (

    select * from {{ ref('int_crmcom__as_of') }}

),

overdue as (

    select
        daily.*,
        as_of.as_of_date
    from {{ ref('crmcom__account_daily') }} as daily
    inner join as_of
        on
            daily.source_relation = as_of.source_relation
            and daily.date_day = as_of.as_of_date
    where daily.overdue_gross > 0

),

last_readings as (

    select * from {{ ref('stg_crmcom__account_observations') }}
    where {{ read_on(days_of_terms()) }}

),

-- The terms as last read by the day of the report, not as they are now.
readings as (

    select
        readings.source_relation,
        readings.account_id,
        readings.payment_terms,
        row_number() over (
            partition by readings.source_relation, readings.account_id
            order by readings.observed_at desc, readings.run_id desc
        ) as recency
    from last_readings as readings
    inner join overdue
        on
            readings.source_relation = overdue.source_relation
            and readings.account_id = overdue.account_id
            and {{ local_date('readings.observed_at') }} = overdue.last_observed_date
    where
        not readings.is_missing
        and {{ is_known('readings.synced_at') }}

),

terms as (

    select
        source_relation,
        account_id,
        {{ payment_terms_days('payment_terms') }} as payment_terms_days
    from readings
    where recency = 1

),

contacts as (

    select * from {{ ref('stg_crmcom__contacts') }}

),

coverage as (

    select * from {{ ref('crmcom__collections_coverage') }}

),

final as (

    select
        overdue.source_relation,
        overdue.as_of_date,
        overdue.account_id,
        overdue.account_number,
        overdue.contact_id,
        contacts.contact_name,
        {{ text_or_null(
            "coalesce(contacts.phone_country_code, '') || ' ' || coalesce(contacts.phone_number, '')"
        ) }} as contact_phone,
        contacts.email as contact_email,
        overdue.state,
        overdue.currency_code,
        overdue.balance,
        overdue.overdue_gross,
        overdue.overdue_net,
        overdue.overdue_since_date,
        overdue.last_not_overdue_date,
        overdue.days_overdue_min,
        overdue.days_overdue_max,
        overdue.is_start_censored,
        overdue.bucket,
        case
            when overdue.state = 'TERMINATED' then 'write_off_review'
            when overdue.state = 'SUSPENDED' then 'suspended'
            else 'collect'
        end as queue,
        terms.payment_terms_days,
        cast(row_number() over (
            partition by overdue.source_relation, overdue.currency_code
            order by
                case when overdue.overdue_net is null then 1 else 0 end asc,
                overdue.overdue_net desc,
                overdue.days_overdue_min desc,
                {{ by_code_points('overdue.account_id') }} asc
        ) as integer) as priority_rank,
        coverage.status as coverage_status,
        coverage.next_due_date
    from overdue
    left join contacts
        on
            overdue.source_relation = contacts.source_relation
            and overdue.contact_id = contacts.contact_id
    left join terms
        on
            overdue.source_relation = terms.source_relation
            and overdue.account_id = terms.account_id
    left join coverage
        on
            overdue.source_relation = coverage.source_relation
            and overdue.account_id = coverage.account_id

)

select * from final
