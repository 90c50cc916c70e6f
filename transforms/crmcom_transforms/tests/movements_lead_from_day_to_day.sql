{# What a day opens with is what the day before closed with, and the rest explains the difference. -#}

{%- set tests = [] -%}
{%- for first, last in built_parts() -%}
{%- set test %}
with days as (

    select
        *,
        lag(period_start_date) over (
            partition by source_relation, account_id, currency_code, measure
            order by period_start_date
        ) as date_before,
        lag(closing) over (
            partition by source_relation, account_id, currency_code, measure
            order by period_start_date
        ) as closing_before
    from (
        {{ balance_movement(sql_date(first, -1), sql_date(last), ['day']) }}
    ) as movements

),

final as (

    select
        source_relation,
        account_id,
        currency_code,
        measure,
        period_start_date,
        date_before,
        closing_before,
        opening,
        closing
    from days
    where
        period_start_date >= {{ sql_date(first) }}
        and (
            opening <> case
                when period_start_date = {{ add_days('date_before', 1) }} then closing_before
                else 0
            end
            or opening + new + reappeared + increase - decrease - terminated_out - disappeared <> closing
            or increase < 0
            or decrease < 0
        )

)

select * from final
{% endset -%}
{%- do tests.append(test) -%}
{%- endfor -%}

{{ first_to_fail(tests) }}
