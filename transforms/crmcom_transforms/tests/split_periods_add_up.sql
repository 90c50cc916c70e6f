-- What a month says is what its days say together; looked at once the period is over.

with whole as (

    select
        *,
        new + reappeared + increase as came,
        decrease + terminated_out + disappeared as went
    from {{ ref('crmcom__balance_movement') }}
    where
        period <> 'day'
        and period_end_date >= {{ first_built_day() }}
        and period_end_date <= {{ last_built_day() }}

),

moves as (

    select
        *,
        new + reappeared + increase as came,
        decrease + terminated_out + disappeared as went
    from {{ ref('int_crmcom__amount_moves') }}
    where date_day >= {{ add_days(first_built_day(), -31) }}

),

parts as (

    {%- for period in period_kinds() %}
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
    {%- if not loop.last %}

    union all
    {% endif %}
    {%- endfor %}

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
