{{ config(alias='data_anomalies') }}

{%- set implausible_after_years = 10 -%}

{#-
    An account's last overdue amount is below zero only if nothing was read after its last such
    reading: of the history before the earliest of these days nothing is needed, and of most
    warehouses nothing at all.
-#}
{%- set negative_days -%}
    select
        source_relation,
        min(last_day) as first_day
    from (
        select
            readings.source_relation,
            readings.account_id,
            max({{ local_date('readings.observed_at') }}) as last_day
        from {{ ref('stg_crmcom__account_observations') }} as readings
        inner join {{ ref('int_crmcom__as_of') }} as as_of
            on readings.source_relation = as_of.source_relation
        where
            readings.overdue_amount < 0
            and not readings.is_missing
            and {{ is_known('readings.synced_at') }}
            and {{ local_date('readings.observed_at') }} <= as_of.as_of_date
        group by readings.source_relation, readings.account_id
    ) as negative
    group by source_relation
{%- endset -%}

with as_of as (

    select * from {{ ref('int_crmcom__as_of') }}

),

accounts as (

    select
        daily.*,
        as_of.as_of_date
    from {{ ref('crmcom__account_daily') }} as daily
    inner join as_of
        on
            daily.source_relation = as_of.source_relation
            and daily.date_day = as_of.as_of_date
    where daily.presence = 'present'

),

recent_readings as (

    select * from {{ ref('stg_crmcom__account_observations') }}
    where
        {{ read_since(negative_days) }}
        and overdue_amount is not null
        and not is_missing
        and {{ is_known('synced_at') }}

),

readings as (

    select recent_readings.*
    from recent_readings
    inner join as_of
        on recent_readings.source_relation = as_of.source_relation
    where {{ local_date('recent_readings.observed_at') }} <= as_of.as_of_date

),

-- Few accounts were ever negative: only theirs are put in order.
once_negative as (

    select distinct
        source_relation,
        account_id
    from readings
    where overdue_amount < 0

),

last_overdue as (

    select
        readings.source_relation,
        readings.account_id,
        coalesce(readings.currency_code, 'XXX') as currency_code,
        {{ raw_money('readings.overdue_amount') }} as overdue_amount,
        row_number() over (
            partition by readings.source_relation, readings.account_id
            order by readings.observed_at desc, readings.run_id desc
        ) as recency
    from readings
    inner join once_negative
        on
            readings.source_relation = once_negative.source_relation
            and readings.account_id = once_negative.account_id

),

currency_changes as (

    select
        changes.*,
        row_number() over (
            partition by changes.source_relation, changes.account_id
            order by changes.date_day desc
        ) as recency
    from {{ ref('int_crmcom__account_changes') }} as changes
    inner join as_of
        on
            changes.source_relation = as_of.source_relation
            and changes.date_day <= as_of.as_of_date
    where
        changes.currency_before <> changes.currency_code
        -- An account that was missing when it was first read had no currency.
        and not (changes.presence_before = 'missing' and changes.currency_before = 'XXX')

),

account_anomalies as (

    select
        accounts.*,
        'overdue_exceeds_balance' as rule,
        accounts.overdue_gross - accounts.overdue_net as amount,
        {{ no_text() }} as detail
    from accounts
    where accounts.overdue_gross > accounts.overdue_net

    union all

    select
        accounts.*,
        'negative_overdue' as rule,
        last_overdue.overdue_amount as amount,
        {{ no_text() }} as detail
    from accounts
    inner join last_overdue
        on
            accounts.source_relation = last_overdue.source_relation
            and accounts.account_id = last_overdue.account_id
            and accounts.currency_code = last_overdue.currency_code
    where
        last_overdue.recency = 1
        and last_overdue.overdue_amount < 0

    union all

    select
        accounts.*,
        'terminated_with_balance' as rule,
        accounts.balance as amount,
        {{ no_text() }} as detail
    from accounts
    where
        accounts.state = 'TERMINATED'
        and accounts.balance <> 0

    union all

    select
        accounts.*,
        'currency_changed' as rule,
        cast(null as decimal(38, 4)) as amount,
        currency_changes.currency_before || ' to ' || currency_changes.currency_code || ' on '
        || {{ as_text('currency_changes.date_day') }} as detail
    from accounts
    inner join currency_changes
        on
            accounts.source_relation = currency_changes.source_relation
            and accounts.account_id = currency_changes.account_id
    where currency_changes.recency = 1

    union all

    select
        accounts.*,
        'missing_currency' as rule,
        accounts.balance as amount,
        {{ no_text() }} as detail
    from accounts
    where accounts.currency_code = 'XXX'

),

activities as (

    select
        *,
        {{ as_text('scheduled_from') }} || ' to '
        || {{ as_text('scheduled_to') }} as schedule
    from {{ ref('int_crmcom__activities_as_of') }}
    where not is_deleted

),

activity_anomalies as (

    select
        activities.*,
        'schedule_ends_before_start' as rule,
        activities.schedule as detail
    from activities
    where activities.scheduled_to < activities.scheduled_from

    union all

    select
        activities.*,
        'implausible_schedule' as rule,
        coalesce(
            activities.schedule, {{ as_text('coalesce(activities.scheduled_from, activities.scheduled_to)') }}
        ) as detail
    from activities
    where
        activities.scheduled_from < cast('2000-01-01' as timestamp)
        or activities.scheduled_to < cast('2000-01-01' as timestamp)
        or activities.scheduled_from > {{ add_years('activities.as_of_date', implausible_after_years) }}
        or activities.scheduled_to > {{ add_years('activities.as_of_date', implausible_after_years) }}

),

final as (

    select
        source_relation,
        as_of_date,
        'account' as entity_type,
        account_id as entity_id,
        rule,
        account_id,
        account_number,
        {{ no_text() }} as activity_id,
        contact_id,
        currency_code,
        {{ money('amount') }} as amount,
        detail
    from account_anomalies

    union all

    select
        source_relation,
        as_of_date,
        'activity' as entity_type,
        activity_id as entity_id,
        rule,
        {{ no_text() }} as account_id,
        {{ no_text() }} as account_number,
        activity_id,
        contact_id,
        {{ no_text() }} as currency_code,
        cast(null as decimal(38, 4)) as amount,
        detail
    from activity_anomalies

)

select * from final
