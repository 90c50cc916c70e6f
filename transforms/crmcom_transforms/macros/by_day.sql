{#
    The day that a `by_day` model is being built for, its neighbours, and the tenants it is
    built for. The materialization puts the real ones in place of these; unit tests override
    the macros.
#}
{% macro built_day() -%}
    cast('0001-01-02' as date)
{%- endmacro %}

{% macro day_before_built() -%}
    cast('0001-01-01' as date)
{%- endmacro %}

{% macro day_after_built() -%}
    cast('0001-01-03' as date)
{%- endmacro %}

{% macro built_tenants() -%}
    ('every tenant')
{%- endmacro %}


{# The model's SQL with the real day and tenants in it. #}
{% macro sql_of_day(sql, day, tenants) %}
    {%- set one_day = modules.datetime.timedelta(days=1) -%}
    {{ return(
        sql
        | replace(crmcom_transforms.built_day(), "cast('" ~ day ~ "' as date)")
        | replace(crmcom_transforms.day_before_built(), "cast('" ~ (day - one_day) ~ "' as date)")
        | replace(crmcom_transforms.day_after_built(), "cast('" ~ (day + one_day) ~ "' as date)")
        | replace(crmcom_transforms.built_tenants(), "('" ~ tenants | join("', '") ~ "')")
    ) }}
{% endmacro %}


{# What to build, oldest day first: a list of (day, the tenants it is built for). #}
{% macro planned_days(plan, starts_over) %}
    {%- set rows = run_query(
        'select source_relation, first_account_date, build_from, as_of_date from ' ~ plan
        ~ ' order by source_relation'
    ).rows -%}
    {%- set tenants = [] -%}
    {%- set starts = [] -%}
    {%- set ends = [] -%}
    {%- for row in rows -%}
        {%- set start = row['first_account_date'] if starts_over else row['build_from'] -%}
        {%- if start <= row['as_of_date'] -%}
            {%- do tenants.append((row['source_relation'], start, row['as_of_date'])) -%}
            {%- do starts.append(start) -%}
            {%- do ends.append(row['as_of_date']) -%}
        {%- endif -%}
    {%- endfor -%}
    {%- set days = [] -%}
    {%- if tenants -%}
        {%- set first = starts | min -%}
        {%- for offset in range(((ends | max) - first).days + 1) -%}
            {%- set day = first + modules.datetime.timedelta(days=offset) -%}
            {%- set of_day = [] -%}
            {%- for name, start, end in tenants if start <= day and day <= end -%}
                {%- do of_day.append(name) -%}
            {%- endfor -%}
            {%- if of_day -%}
                {%- do days.append((day, of_day)) -%}
            {%- endif -%}
        {%- endfor -%}
    {%- endif -%}
    {{ return(days) }}
{% endmacro %}


{# The variables that a `by_day` model depends on: when they change, every day is built again. #}
{% macro by_day_settings() -%}
    {{ tojson({
        'timezone': var('crmcom_report_timezone', 'UTC'),
        'sign': var('crmcom_balance_sign', 'positive'),
        'buckets': var('crmcom_ageing_buckets', [30, 60, 90]),
        'known_at': var('crmcom_known_at', none) | string,
        'build': var('crmcom_build', none) | string,
    }, sort_keys=true) | replace("'", '') }}
{%- endmacro %}


{# Whether a table has just these columns: after an upgrade it may not. #}
{% macro has_columns(relation, names) %}
    {%- set present = [] -%}
    {%- for column in adapter.get_columns_in_relation(relation) -%}
        {%- do present.append(column.name | lower) -%}
    {%- endfor -%}
    {{ return(present | sort == names | sort) }}
{% endmacro %}


{# Whether every day is to be built again, whatever was built before. #}
{% macro must_start_over() %}
    {{ return(adapter.dispatch('must_start_over', 'crmcom_transforms')()) }}
{% endmacro %}

{% macro default__must_start_over() %}
    {{ return(should_full_refresh()) }}
{% endmacro %}

{# Rows of Parquet files can be added to, not changed. #}
{% macro spark__must_start_over() %}
    {{ return(true) }}
{% endmacro %}


{#
    What a `by_day` model was made from when it was last built to its end, for the model that
    plans it; none on a first build or when all is to be built again.
#}
{% macro built_before(plan) %}
    {%- if not execute or crmcom_transforms.must_start_over() -%}
        {{ return(none) }}
    {%- endif -%}
    {{ return(adapter.get_relation(
        database=plan.database,
        schema=plan.schema,
        identifier=plan.identifier | replace('_plan', '_built'),
    )) }}
{% endmacro %}


{#
    The same table, built already and just so, in the file that the raw tables are read from:
    a report as of a past day, made in a file of its own, then reads it there. None where there
    is no such table, or it was built from other variables or does not reach the day.
#}
{% macro built_elsewhere(relation, built, plan) %}
    {%- set database = var('crmcom_database', none) -%}
    {%- if database is none or database == target.database -%}
        {{ return(none) }}
    {%- endif -%}
    {%- set days = adapter.get_relation(
        database=database, schema=relation.schema, identifier=relation.identifier
    ) -%}
    {%- set made = adapter.get_relation(
        database=database, schema=built.schema, identifier=built.identifier
    ) -%}
    {%- if days is none or made is none -%}
        {{ return(none) }}
    {%- endif -%}
    {%- set lacking = run_query(
        "select planned.source_relation from " ~ plan ~ " as planned left join " ~ made ~ " as made"
        ~ " on planned.source_relation = made.source_relation"
        ~ " and planned.as_of_date <= made.as_of_date"
        ~ " and made.settings = '" ~ crmcom_transforms.by_day_settings() ~ "'"
        ~ " where made.source_relation is null"
    ).rows -%}
    {{ return(none if lacking else days) }}
{% endmacro %}


{#
    A table that is built one day at a time, each day from the day before it and its own
    readings. A year of a million accounts passes through like a single day: what is held in
    memory is one day, and a daily run makes one day.

    The model's SQL gives the rows of `built_day()` for `built_tenants()`, and finds the day
    before in `this`. The model named by `plan` says per tenant which days to make. A table
    called `<model>_built` beside the plan keeps what they were made from (the model named by
    `built_from`) and is written last: a build that was stopped anywhere is made again from
    where the last whole one ended.
#}
{% materialization by_day, default, supported_languages=['sql'] %}

    {%- set target_relation = this.incorporate(type='table') -%}
    {%- set existing = load_cached_relation(this) -%}
    {%- set plan = ref(config.require('plan')) -%}
    {%- set built = api.Relation.create(
        database=plan.database,
        schema=plan.schema,
        identifier=plan.identifier | replace('_plan', '_built'),
        type='table',
    ) -%}
    {%- set columns = model.columns.keys() | list -%}
    {%- set starts_over = (
        existing is none
        or crmcom_transforms.must_start_over()
        or load_cached_relation(built) is none
        or not crmcom_transforms.has_columns(existing, columns)
    ) -%}
    {%- set elsewhere = (
        crmcom_transforms.built_elsewhere(this, built, plan) if starts_over else none
    ) -%}

    {{ run_hooks(pre_hooks, inside_transaction=False) }}
    {{ run_hooks(pre_hooks, inside_transaction=True) }}

    {% if starts_over %}
        {% do adapter.drop_relation(built) %}
        {% if existing is not none %}
            {% do adapter.drop_relation(existing) %}
        {% endif %}
    {% endif %}

    {% if elsewhere is not none %}
        {% call statement('main') -%}
            create view {{ target_relation }} as
            select {{ columns | join(', ') }}
            from {{ elsewhere }} as days
            where exists (
                select 1
                from {{ crmcom_transforms.without_catalog(plan) }} as planned
                where
                    planned.source_relation = days.source_relation
                    and days.date_day <= planned.as_of_date
            )
        {%- endcall %}
        {% do adapter.commit() %}
        {{ return({'relations': [this.incorporate(type='view')]}) }}
    {% endif %}

    {% if starts_over %}
        {% call statement('main') -%}
            create table {{ target_relation }} {{ get_table_columns_and_constraints() }}
        {%- endcall %}
        {#- Only now: the model's SQL names the table itself. -#}
        {% do get_assert_columns_equivalent(sql) %}
        {% do persist_docs(target_relation, model) %}
    {% else %}
        {#- Should this build be stopped: what is made again from here on is no longer built. -#}
        {% call statement('forget_settings') -%}
            delete from {{ built }} where settings <> '{{ crmcom_transforms.by_day_settings() }}'
        {%- endcall %}
        {% call statement('forget_days') -%}
            update {{ built }} as made
            set as_of_date = case
                when planned.build_from <= planned.as_of_date
                    then {{ crmcom_transforms.add_days('planned.build_from', -1) }}
                else planned.as_of_date
            end
            from {{ plan }} as planned
            where
                made.source_relation = planned.source_relation
                and (
                    made.as_of_date >= planned.build_from
                    or made.as_of_date > planned.as_of_date
                )
        {%- endcall %}
        {#- Statements with literals: a scan then skips the history that stays. -#}
        {%- set planned = run_query(
            'select source_relation, build_from, as_of_date from ' ~ plan
        ).rows -%}
        {% for tenant, build_from, as_of_date in planned %}
            {% call statement('delete_days') -%}
                delete from {{ target_relation }}
                where
                    source_relation = '{{ tenant }}'
                    and date_day > cast('{{
                        [build_from - modules.datetime.timedelta(days=1), as_of_date] | min
                    }}' as date)
            {%- endcall %}
        {% endfor %}
        {% call statement('main') -%}
            delete from {{ target_relation }}
            where
                1 = 1
                {%- for tenant, _, _ in planned %}
                and source_relation <> '{{ tenant }}'
                {%- endfor %}
        {%- endcall %}
    {% endif %}
    {% do adapter.commit() %}

    {% for day, tenants in crmcom_transforms.planned_days(plan, starts_over) %}
        {% call statement('day') -%}
            insert into {{ target_relation }} ({{ columns | join(', ') }})
            select {{ columns | join(', ') }}
            from (
                {{ crmcom_transforms.sql_of_day(sql, day, tenants) }}
            ) as made
        {%- endcall %}
        {% do adapter.commit() %}
    {% endfor %}

    {{ run_hooks(post_hooks, inside_transaction=True) }}
    {% call statement('forget') -%}
        drop table if exists {{ built }}
    {%- endcall %}
    {% call statement('remember') -%}
        create table {{ built }} as (
            select
                made_from.*,
                planned.as_of_date,
                '{{ crmcom_transforms.by_day_settings() }}' as settings
            from {{ ref(config.require('built_from')) }} as made_from
            left join {{ plan }} as planned
                on made_from.source_relation = planned.source_relation
        )
    {%- endcall %}
    {% do adapter.commit() %}
    {{ run_hooks(post_hooks, inside_transaction=False) }}

    {{ return({'relations': [target_relation]}) }}

{% endmaterialization %}
