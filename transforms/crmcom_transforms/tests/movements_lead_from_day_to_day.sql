{# What a day opens with is what the day before closed with, and what moved is all that differs. -#}

{%- set tests = [] -%}
{%- for first, last in built_parts() -%}
{%- set test %}
with today as (

    select
        source_relation,
        account_id,
        date_day,
        currency_code,
        balance,
        overdue_gross as overdue
    from {{ ref('crmcom__account_daily') }}
    where
        presence = 'present'
        and {{ is_within('date_day', sql_date(first), sql_date(last)) }}

),

yesterday as (

    select
        daily.source_relation,
        daily.account_id,
        {{ add_days('daily.date_day', 1) }} as date_day,
        daily.currency_code,
        daily.balance,
        daily.overdue_gross as overdue
    from {{ ref('crmcom__account_daily') }} as daily
    inner join {{ ref('int_crmcom__as_of') }} as as_of
        on
            daily.source_relation = as_of.source_relation
            and daily.date_day < as_of.as_of_date
    where
        daily.presence = 'present'
        and {{ is_within('daily.date_day', sql_date(first, -1), sql_date(last, -1)) }}

),

changed as (

    select
        coalesce(today.source_relation, yesterday.source_relation) as source_relation,
        coalesce(today.account_id, yesterday.account_id) as account_id,
        coalesce(today.date_day, yesterday.date_day) as date_day,
        coalesce(today.currency_code, yesterday.currency_code) as currency_code,
        yesterday.balance as balance_before,
        today.balance,
        yesterday.overdue as overdue_before,
        today.overdue
    from today
    full outer join yesterday
        on
            today.source_relation = yesterday.source_relation
            and today.account_id = yesterday.account_id
            and today.date_day = yesterday.date_day
            and today.currency_code = yesterday.currency_code
    where
        today.balance is distinct from yesterday.balance
        or today.overdue is distinct from yesterday.overdue

),

differences as (

    {%- for measure in ['balance', 'overdue'] %}
    select
        source_relation,
        account_id,
        date_day,
        currency_code,
        '{{ measure }}' as measure,
        {{ measure }}_before as opening,
        {{ measure }} as closing
    from changed
    where {{ measure }} is distinct from {{ measure }}_before
    {%- if not loop.last %}

    union all
    {% endif %}
    {%- endfor %}

),

moves as (

    select
        *,
        opening + new + reappeared + increase - decrease - terminated_out - disappeared as closing
    from (
        {{ amount_moves(sql_date(first), sql_date(last)) }}
    ) as all_moves

),

final as (

    select
        coalesce(moves.source_relation, differences.source_relation) as source_relation,
        coalesce(moves.account_id, differences.account_id) as account_id,
        coalesce(moves.date_day, differences.date_day) as date_day,
        coalesce(moves.currency_code, differences.currency_code) as currency_code,
        coalesce(moves.measure, differences.measure) as measure,
        differences.opening as closing_before,
        moves.opening,
        differences.closing as closing_of_day,
        moves.closing
    from moves
    full outer join differences
        on
            moves.source_relation = differences.source_relation
            and moves.account_id = differences.account_id
            and moves.date_day = differences.date_day
            and moves.currency_code = differences.currency_code
            and moves.measure = differences.measure
    where
        moves.account_id is null
        or moves.increase < 0
        or moves.decrease < 0
        or (differences.account_id is null and moves.opening <> moves.closing)
        or (
            differences.account_id is not null
            and (
                moves.opening <> coalesce(differences.opening, 0)
                or moves.closing <> coalesce(differences.closing, 0)
            )
        )

)

select * from final
{% endset -%}
{%- do tests.append(test) -%}
{%- endfor -%}

{{ first_to_fail(tests) }}
