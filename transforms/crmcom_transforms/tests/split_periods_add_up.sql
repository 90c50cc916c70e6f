-- What a month says is what its days say together; looked at once the period is over.

with as_of as (

    select * from {{ ref('int_crmcom__as_of') }}

),

movement as (

    select
        *,
        new + reappeared + increase as came,
        decrease + terminated_out + disappeared as went
    from {{ ref('crmcom__balance_movement') }}

),

whole as (

    select movement.*
    from movement
    inner join as_of
        on movement.source_relation = as_of.source_relation
    where
        movement.period <> 'day'
        and movement.period_end_date >= {{ first_built_day() }}
        and movement.period_end_date <= as_of.as_of_date

),

bounds as (

    select distinct
        source_relation,
        period,
        period_start_date,
        period_end_date
    from whole

),

parts as (

    select
        bounds.source_relation,
        bounds.period,
        bounds.period_start_date,
        movement.account_id,
        movement.currency_code,
        movement.measure,
        sum(movement.came) as came,
        sum(movement.went) as went,
        sum(movement.gap_days) as gap_days
    from movement
    inner join bounds
        on
            movement.source_relation = bounds.source_relation
            and movement.period_start_date >= bounds.period_start_date
            and movement.period_end_date <= bounds.period_end_date
    where movement.period = 'day'
    group by
        bounds.source_relation,
        bounds.period,
        bounds.period_start_date,
        movement.account_id,
        movement.currency_code,
        movement.measure

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
        whole.came is distinct from parts.came
        or whole.went is distinct from parts.went
        or whole.gap_days is distinct from parts.gap_days
        or whole.opening + whole.came - whole.went <> whole.closing

)

select * from final
