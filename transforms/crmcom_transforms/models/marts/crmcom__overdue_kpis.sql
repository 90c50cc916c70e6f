{{ config(alias='overdue_kpis', materialized='view') }}

{#- A view: whoever asks for a period pays for that period, and a daily build for nothing. -#}

with as_of as (

    select * from {{ without_catalog(ref('int_crmcom__as_of')) }}

),

accounts as (

    select
        daily.source_relation,
        daily.account_id,
        daily.date_day,
        daily.currency_code,
        daily.overdue_gross,
        daily.overdue_net,
        daily.receivable,
        as_of.as_of_date
    from {{ without_catalog(ref('crmcom__account_daily')) }} as daily
    inner join as_of
        on daily.source_relation = as_of.source_relation
    where daily.presence = 'present'

),

moves as (

    select * from {{ ref('int_crmcom__amount_moves') }}
    where measure = 'overdue'

),

-- What each day brings to the figures of its periods, and what it leaves.
days as (

    select
        source_relation,
        currency_code,
        date_day,
        cast(0 as decimal(38, 4)) as entered,
        cast(0 as decimal(38, 4)) as cleared,
        coalesce(sum(overdue_gross), 0) as overdue_gross,
        coalesce(sum(overdue_net), 0) as overdue_net,
        coalesce(sum(receivable), 0) as receivable
    from accounts
    group by source_relation, currency_code, date_day

    union all

    select
        source_relation,
        currency_code,
        date_day,
        sum(new + reappeared + increase + {{ positive_part('-terminated_out') }}) as entered,
        sum(disappeared + decrease + {{ positive_part('terminated_out') }}) as cleared,
        cast(0 as decimal(38, 4)) as overdue_gross,
        cast(0 as decimal(38, 4)) as overdue_net,
        cast(0 as decimal(38, 4)) as receivable
    from moves
    group by source_relation, currency_code, date_day

),

periods as (

    {%- for period in period_kinds() %}
    {%- set is_last = is_last_day(period, 'days.date_day', 'as_of.as_of_date') %}
    select
        days.source_relation,
        '{{ period }}' as period,
        {{ period_start(period, 'days.date_day') }} as period_start_date,
        {{ period_end(period, 'days.date_day') }} as period_end_date,
        days.currency_code,
        sum(days.entered) as entered,
        sum(days.cleared) as cleared,
        sum(case when {{ is_last }} then days.overdue_gross else 0 end) as closing_overdue,
        sum(case when {{ is_last }} then days.overdue_net else 0 end) as closing_net,
        sum(case when {{ is_last }} then days.receivable else 0 end) as closing_receivable
    from days
    inner join as_of
        on days.source_relation = as_of.source_relation
    group by
        days.source_relation,
        {{ period_start(period, 'days.date_day') }},
        {{ period_end(period, 'days.date_day') }},
        days.currency_code
    {%- if not loop.last %}

    union all
    {% endif %}
    {%- endfor %}

),

-- The accounts that were overdue when a period began, beside what they are at its end.
overdue_accounts as (

    {%- for period in period_kinds() %}
    select
        opening.source_relation,
        '{{ period }}' as period,
        {{ add_days('opening.date_day', 1) }} as period_start_date,
        opening.currency_code,
        sum(opening.overdue_gross) as opening_overdue,
        count(*) as overdue_accounts,
        sum(case when closing.overdue_gross = 0 then 1 else 0 end) as cured_accounts
    from accounts as opening
    left join accounts as closing
        on
            opening.source_relation = closing.source_relation
            and opening.account_id = closing.account_id
            and opening.currency_code = closing.currency_code
            and {{ last_day(period, add_days('opening.date_day', 1), 'opening.as_of_date') }}
            = closing.date_day
    where
        opening.overdue_gross > 0
        and {{ is_first_day(period, add_days('opening.date_day', 1)) }}
    group by opening.source_relation, opening.date_day, opening.currency_code
    {%- if not loop.last %}

    union all
    {% endif %}
    {%- endfor %}

),

final as (

    select
        periods.source_relation,
        periods.period,
        periods.period_start_date,
        periods.period_end_date,
        periods.currency_code,
        {{ money('coalesce(overdue_accounts.opening_overdue, 0)') }} as opening_overdue,
        {{ money('periods.entered') }} as entered,
        {{ money('periods.cleared') }} as cleared,
        {{ money('periods.closing_overdue') }} as closing_overdue,
        {{ ratio('overdue_accounts.cured_accounts', 'overdue_accounts.overdue_accounts') }} as cure_rate,
        {{ ratio('periods.closing_net', 'periods.closing_receivable') }} as overdue_ratio
    from periods
    left join overdue_accounts
        on
            periods.source_relation = overdue_accounts.source_relation
            and periods.period = overdue_accounts.period
            and periods.period_start_date = overdue_accounts.period_start_date
            and periods.currency_code = overdue_accounts.currency_code

)

select * from final
