{{ config(alias='overdue_ageing') }}

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

-- Within an unbroken run every rise opens a layer.
rises as (

    select
        changes.source_relation,
        changes.account_id,
        changes.date_day as layer_date,
        case
            when changes.date_day = overdue.overdue_since_date then changes.overdue
            else changes.overdue - changes.overdue_before
        end as amount
    from {{ ref('int_crmcom__account_changes') }} as changes
    inner join overdue
        on
            changes.source_relation = overdue.source_relation
            and changes.account_id = overdue.account_id
            and changes.date_day >= overdue.overdue_since_date
            and changes.date_day <= overdue.as_of_date
    where
        changes.date_day = overdue.overdue_since_date
        or changes.overdue > changes.overdue_before

),

-- What falls consumes the oldest layer first, so what is left is what rose last.
stacked as (

    select
        *,
        coalesce(sum(amount) over (
            partition by source_relation, account_id
            order by layer_date desc
            rows between unbounded preceding and 1 preceding
        ), 0) as risen_later
    from rises

),

layers as (

    select
        overdue.source_relation,
        overdue.as_of_date,
        overdue.account_id,
        overdue.account_number,
        overdue.contact_id,
        overdue.currency_code,
        overdue.is_start_censored and stacked.layer_date = overdue.overdue_since_date
            as is_age_lower_bound,
        {{ days_between('stacked.layer_date', 'overdue.as_of_date') }} + 1 as age_days,
        {{ smaller_of('stacked.amount', 'overdue.overdue_gross - stacked.risen_later') }} as amount
    from stacked
    inner join overdue
        on
            stacked.source_relation = overdue.source_relation
            and stacked.account_id = overdue.account_id
    where stacked.risen_later < overdue.overdue_gross

),

bucketed as (

    select
        *,
        {{ age_bucket('age_days', 'is_age_lower_bound') }} as bucket
    from layers

),

final as (

    select
        source_relation,
        as_of_date,
        account_id,
        account_number,
        contact_id,
        currency_code,
        bucket,
        {{ money('sum(amount)') }} as amount,
        max(case when is_age_lower_bound then 1 else 0 end) = 1 as is_age_lower_bound
    from bucketed
    group by
        source_relation, as_of_date, account_id, account_number, contact_id, currency_code, bucket

)

select * from final
