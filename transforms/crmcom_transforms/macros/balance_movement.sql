{#
    The report `balance_movement`; of all days, or of those from `first_day` to `last_day` (SQL
    dates) alone: let them begin and end together with periods of the `kinds`, or what lies outside
    is not counted.
#}
{% macro balance_movement(first_day=none, last_day=none, kinds=none) -%}
{%- set flows = ['new', 'reappeared', 'increase', 'decrease', 'terminated_out', 'disappeared'] -%}

with as_of as (

    select * from {{ crmcom_transforms.without_catalog(ref('int_crmcom__as_of')) }}

),

accounts as (

    select * from {{ crmcom_transforms.without_catalog(ref('stg_crmcom__accounts')) }}

),

moves as (

    {{ crmcom_transforms.amount_moves(first_day, last_day) }}

),

amounts as (

    {%- for measure, column in [('balance', 'balance'), ('overdue', 'overdue_gross')] %}
    select
        source_relation,
        account_id,
        date_day,
        currency_code,
        '{{ measure }}' as measure,
        contact_id,
        {{ column }} as amount,
        is_observed
    from {{ crmcom_transforms.without_catalog(ref('crmcom__account_daily')) }}
    where
        presence = 'present'
        and {{ column }} is not null
        and {{ crmcom_transforms.is_within('date_day', first_day, last_day) }}
    {%- if not loop.last %}

    union all
    {% endif %}
    {%- endfor %}

),

-- A day's amount is what it closed with, and also what it opened with, but for what moved on it.
days as (

    select
        source_relation,
        account_id,
        date_day,
        currency_code,
        measure,
        contact_id,
        amount as opening,
        {%- for flow in flows %}
        cast(0 as decimal(38, 4)) as {{ flow }},
        {%- endfor %}
        amount as closing,
        case when is_observed then 0 else 1 end as gap_days
    from amounts

    union all

    select
        source_relation,
        account_id,
        date_day,
        currency_code,
        measure,
        {{ crmcom_transforms.no_text() }} as contact_id,
        decrease + terminated_out + disappeared - new - reappeared - increase as opening,
        {%- for flow in flows %}
        {{ flow }},
        {%- endfor %}
        cast(0 as decimal(38, 4)) as closing,
        0 as gap_days
    from moves

),

periods as (

    {%- for period in kinds or crmcom_transforms.period_kinds() %}
    {%- set is_last = crmcom_transforms.is_last_day(period, 'days.date_day', 'as_of.as_of_date') %}
    select
        days.source_relation,
        '{{ period }}' as period,
        {{ crmcom_transforms.period_start(period, 'days.date_day') }} as period_start_date,
        {{ crmcom_transforms.period_end(period, 'days.date_day') }} as period_end_date,
        days.account_id,
        days.currency_code,
        days.measure,
        max(case when {{ is_last }} then days.contact_id end) as last_contact_id,
        max({{ crmcom_transforms.by_code_points('days.contact_id') }}) as any_contact_id,
        sum(case when {{ crmcom_transforms.is_first_day(period, 'days.date_day') }} then days.opening else 0 end) as opening,
        {%- for flow in flows %}
        sum(days.{{ flow }}) as {{ flow }},
        {%- endfor %}
        sum(case when {{ is_last }} then days.closing else 0 end) as closing,
        sum(days.gap_days) as gap_days
    from days
    inner join as_of
        on days.source_relation = as_of.source_relation
    group by
        days.source_relation,
        {{ crmcom_transforms.period_start(period, 'days.date_day') }},
        {{ crmcom_transforms.period_end(period, 'days.date_day') }},
        days.account_id,
        days.currency_code,
        days.measure
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
        periods.account_id,
        accounts.account_number,
        coalesce(periods.last_contact_id, periods.any_contact_id, accounts.contact_id) as contact_id,
        periods.currency_code,
        periods.measure,
        {%- for amount in ['opening'] + flows + ['closing'] %}
        {{ crmcom_transforms.money('periods.' ~ amount) }} as {{ amount }},
        {%- endfor %}
        cast(periods.gap_days as integer) as gap_days
    from periods
    left join accounts
        on
            periods.source_relation = accounts.source_relation
            and periods.account_id = accounts.account_id

)

select * from final
{%- endmacro %}
