{#
    The report `overdue_kpis`; of all days, or of those from `first_day` to `last_day` (SQL dates)
    alone: let them begin with the day before a period of the `kinds`, whose amounts are the opening
    ones, and end together with one.
#}
{% macro overdue_kpis(first_day=none, last_day=none, kinds=none) -%}
with as_of as (

    select * from {{ crmcom_transforms.without_catalog(ref('int_crmcom__as_of')) }}

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
    from {{ crmcom_transforms.without_catalog(ref('crmcom__account_daily')) }} as daily
    inner join as_of
        on daily.source_relation = as_of.source_relation
    where
        daily.presence = 'present'
        and {{ crmcom_transforms.is_within('daily.date_day', first_day, last_day) }}

),

moves as (

    select * from (
        {{ crmcom_transforms.amount_moves(first_day, last_day) }}
    ) as all_moves
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
        sum(new + reappeared + increase + {{ crmcom_transforms.positive_part('-terminated_out') }}) as entered,
        sum(disappeared + decrease + {{ crmcom_transforms.positive_part('terminated_out') }}) as cleared,
        cast(0 as decimal(38, 4)) as overdue_gross,
        cast(0 as decimal(38, 4)) as overdue_net,
        cast(0 as decimal(38, 4)) as receivable
    from moves
    group by source_relation, currency_code, date_day

),

{% for period in kinds or crmcom_transforms.period_kinds() -%}
-- The accounts that were overdue when a {{ period }} began, beside what they are at its end.
opening_{{ period }} as (

    select
        opening.source_relation,
        opening.currency_code,
        {{ crmcom_transforms.add_days('opening.date_day', 1) }} as date_day,
        opening.overdue_gross as opening_overdue,
        case when closing.overdue_gross = 0 then 1 else 0 end as cured_accounts
    from accounts as opening
    left join accounts as closing
        on
            opening.source_relation = closing.source_relation
            and opening.account_id = closing.account_id
            and opening.currency_code = closing.currency_code
            and {{ crmcom_transforms.last_day(period, crmcom_transforms.add_days('opening.date_day', 1), 'opening.as_of_date') }}
            = closing.date_day
    where
        opening.overdue_gross > 0
        and opening.date_day < opening.as_of_date
        and {{ crmcom_transforms.is_first_day(period, crmcom_transforms.add_days('opening.date_day', 1)) }}

),

{{ period }}_parts as (

    select
        source_relation,
        currency_code,
        date_day,
        entered,
        cleared,
        overdue_gross,
        overdue_net,
        receivable,
        cast(0 as decimal(38, 4)) as opening_overdue,
        0 as overdue_accounts,
        0 as cured_accounts
    from days

    union all

    select
        source_relation,
        currency_code,
        date_day,
        cast(0 as decimal(38, 4)) as entered,
        cast(0 as decimal(38, 4)) as cleared,
        cast(0 as decimal(38, 4)) as overdue_gross,
        cast(0 as decimal(38, 4)) as overdue_net,
        cast(0 as decimal(38, 4)) as receivable,
        opening_overdue,
        1 as overdue_accounts,
        cured_accounts
    from opening_{{ period }}

),

{% endfor -%}
periods as (

    {%- for period in kinds or crmcom_transforms.period_kinds() %}
    {%- set is_last = crmcom_transforms.is_last_day(period, 'parts.date_day', 'as_of.as_of_date') %}
    select
        parts.source_relation,
        '{{ period }}' as period,
        {{ crmcom_transforms.period_start(period, 'parts.date_day') }} as period_start_date,
        {{ crmcom_transforms.period_end(period, 'parts.date_day') }} as period_end_date,
        parts.currency_code,
        sum(parts.opening_overdue) as opening_overdue,
        sum(parts.entered) as entered,
        sum(parts.cleared) as cleared,
        sum(parts.overdue_accounts) as overdue_accounts,
        sum(parts.cured_accounts) as cured_accounts,
        sum(case when {{ is_last }} then parts.overdue_gross else 0 end) as closing_overdue,
        sum(case when {{ is_last }} then parts.overdue_net else 0 end) as closing_net,
        sum(case when {{ is_last }} then parts.receivable else 0 end) as closing_receivable
    from {{ period }}_parts as parts
    inner join as_of
        on parts.source_relation = as_of.source_relation
    group by
        parts.source_relation,
        {{ crmcom_transforms.period_start(period, 'parts.date_day') }},
        {{ crmcom_transforms.period_end(period, 'parts.date_day') }},
        parts.currency_code
    {%- if not loop.last %}

    union all
    {% endif %}
    {%- endfor %}

),

final as (

    select
        source_relation,
        period,
        period_start_date,
        period_end_date,
        currency_code,
        {{ crmcom_transforms.money('opening_overdue') }} as opening_overdue,
        {{ crmcom_transforms.money('entered') }} as entered,
        {{ crmcom_transforms.money('cleared') }} as cleared,
        {{ crmcom_transforms.money('closing_overdue') }} as closing_overdue,
        {{ crmcom_transforms.ratio('cured_accounts', 'overdue_accounts') }} as cure_rate,
        {{ crmcom_transforms.ratio('closing_net', 'closing_receivable') }} as overdue_ratio
    from periods

)

select * from final
{%- endmacro %}
