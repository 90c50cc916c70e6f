{# What a month says is what its days say together; looked at once the period is over. -#}

{%- set tests = [] -%}
{%- for period, first, last in built_periods() -%}
{%- set test %}
with whole as (

    select
        *,
        new + reappeared + increase as came,
        decrease + terminated_out + disappeared as went
    from (
        {{ balance_movement(sql_date(first), sql_date(last), [period]) }}
    ) as movements

),

moves as (

    select
        *,
        new + reappeared + increase as came,
        decrease + terminated_out + disappeared as went
    from (
        {{ amount_moves(sql_date(first), sql_date(last)) }}
    ) as all_moves

),

parts as (

    select
        source_relation,
        '{{ period }}' as period,
        {{ period_start(period, 'date_day') }} as period_start_date,
        account_id,
        currency_code,
        measure,
        sum(came) as came,
        sum(went) as went
    from moves
    group by
        source_relation, {{ period_start(period, 'date_day') }}, account_id, currency_code, measure

),

final as (

    select
        whole.source_relation,
        whole.account_id,
        whole.currency_code,
        whole.measure,
        whole.period,
        whole.period_start_date,
        whole.opening,
        whole.closing
    from whole
    left join parts
        on
            whole.source_relation = parts.source_relation
            and whole.period = parts.period
            and whole.period_start_date = parts.period_start_date
            and whole.account_id = parts.account_id
            and whole.currency_code = parts.currency_code
            and whole.measure = parts.measure
    where
        whole.came <> coalesce(parts.came, 0)
        or whole.went <> coalesce(parts.went, 0)
        or whole.opening + whole.came - whole.went <> whole.closing

)

select * from final
{% endset -%}
{%- do tests.append(test) -%}
{%- endfor -%}

{{ first_to_fail(tests) }}
