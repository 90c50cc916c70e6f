{%- set tests = [] -%}
{%- for first, last in built_parts() -%}
{%- set test %}
with accounts as (

    select
        source_relation,
        date_day,
        currency_code,
        coalesce(sum(overdue_gross), 0) as overdue_gross
    from {{ ref('crmcom__account_daily') }}
    where
        {{ is_within('date_day', sql_date(first, -1), sql_date(last)) }}
        and presence = 'present'
    group by source_relation, date_day, currency_code

),

days as (

    select * from (
        {{ overdue_kpis(sql_date(first, -1), sql_date(last), ['day']) }}
    ) as kpis
    where {{ is_within('period_start_date', sql_date(first), sql_date(last)) }}

),

final as (

    select
        days.source_relation,
        days.currency_code,
        days.period_start_date,
        yesterday.overdue_gross as overdue_before,
        days.opening_overdue,
        days.closing_overdue,
        today.overdue_gross
    from days
    left join accounts as today
        on
            days.source_relation = today.source_relation
            and days.period_start_date = today.date_day
            and days.currency_code = today.currency_code
    left join accounts as yesterday
        on
            days.source_relation = yesterday.source_relation
            and days.period_start_date = {{ add_days('yesterday.date_day', 1) }}
            and days.currency_code = yesterday.currency_code
    where
        days.opening_overdue + days.entered - days.cleared <> days.closing_overdue
        or days.opening_overdue <> coalesce(yesterday.overdue_gross, 0)
        or days.closing_overdue <> coalesce(today.overdue_gross, 0)

)

select * from final
{% endset -%}
{%- do tests.append(test) -%}
{%- endfor -%}

{{ first_to_fail(tests) }}
