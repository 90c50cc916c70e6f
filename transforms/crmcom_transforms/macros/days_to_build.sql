{#
    Which days a `by_day` model makes in this build, one row per tenant; `built` is what the model
    was made from when it was last built to its end (see `built_before`), `settings` by which
    variables.
#}
{% macro days_to_build(built, settings) -%}
with as_of as (

    select * from {{ ref('int_crmcom__as_of') }}
    where first_account_date is not null

),

runs as (

    select * from {{ ref('int_crmcom__reading_runs') }}

),

{% if built is none -%}
-- The first build: nothing was built before.
built_runs as (

    select
        runs.*,
        cast(null as date) as as_of_date
    from runs
    where 1 = 0

),

{% else -%}
built_runs as (

    select
        source_relation,
        run_id,
        readings,
        first_date,
        last_observed_at,
        last_synced_at,
        as_of_date
    from {{ built }}
    where settings = '{{ settings }}'

),

{% endif -%}
built_tenants as (

    select
        source_relation,
        max(as_of_date) as as_of_date
    from built_runs
    group by source_relation

),

-- Runs that came, went or changed since, whichever way: a late row, a reset, a repeated load.
changed_runs as (

    select
        coalesce(runs.source_relation, built_runs.source_relation) as source_relation,
        case
            when built_runs.first_date < runs.first_date then built_runs.first_date
            else coalesce(runs.first_date, built_runs.first_date)
        end as first_date
    from runs
    full outer join built_runs
        on
            runs.source_relation = built_runs.source_relation
            and runs.run_id = built_runs.run_id
    where
        runs.readings is distinct from built_runs.readings
        or runs.first_date is distinct from built_runs.first_date
        or runs.last_observed_at is distinct from built_runs.last_observed_at
        or runs.last_synced_at is distinct from built_runs.last_synced_at

),

changed_tenants as (

    select
        source_relation,
        min(first_date) as first_date
    from changed_runs
    group by source_relation

),

final as (

    select
        as_of.source_relation,
        as_of.first_account_date,
        as_of.as_of_date,
        case
            when built_tenants.source_relation is null then as_of.first_account_date
            when changed_tenants.first_date <= built_tenants.as_of_date
                then changed_tenants.first_date
            else {{ crmcom_transforms.add_days('built_tenants.as_of_date', 1) }}
        end as build_from
    from as_of
    left join built_tenants
        on as_of.source_relation = built_tenants.source_relation
    left join changed_tenants
        on as_of.source_relation = changed_tenants.source_relation

)

select * from final
{%- endmacro %}
