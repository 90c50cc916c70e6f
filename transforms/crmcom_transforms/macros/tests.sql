{#
    What a test looks at: all rows of a model, or, for a model that is built day by day, those
    of the days that this build made, so that a daily run tests a day and not its history.
#}
{% macro tested_rows(model, only_planned_days) -%}
    {%- if only_planned_days -%}
        {%- set first, last = crmcom_transforms.built_days() -%}
        (
            select * from {{ model }}
            where {{ crmcom_transforms.is_within(
                'date_day', crmcom_transforms.sql_date(first), crmcom_transforms.sql_date(last)
            ) }}
        ) as tested
    {%- else -%}
        {{ model }} as tested
    {%- endif -%}
{%- endmacro %}


{#
    The first and the last day that this build made, as dates: for literals in a test, which let a
    scan skip the days that were there before.
#}
{% macro built_days() %}
    {%- set plan = ref('int_crmcom__account_daily_plan') -%}
    {%- if execute -%}
        {%- set row = run_query('select min(build_from), max(as_of_date) from ' ~ plan).rows[0] -%}
        {%- if row[1] -%}
            {{ return((row[0], row[1])) }}
        {%- endif -%}
    {%- endif -%}
    {#- Without any accounts, no day. -#}
    {%- set never = modules.datetime.date(9999, 12, 1) -%}
    {{ return((never, never)) }}
{% endmacro %}


{#
    The same in parts of a week at most, for tests of what looks back: a full build is tested one
    week after the other, and never held in memory.
#}
{% macro built_parts() %}
    {%- set first, last = crmcom_transforms.built_days() -%}
    {%- set parts = [] -%}
    {%- for offset in range(0, (last - first).days + 1, 7) -%}
        {%- set start = first + modules.datetime.timedelta(days=offset) -%}
        {%- do parts.append((start, [start + modules.datetime.timedelta(days=6), last] | min)) -%}
    {%- endfor -%}
    {#- Where nothing was to do, the first comes after the last. -#}
    {{ return(parts or [(first, last)]) }}
{% endmacro %}


{# The weeks and months that ended on a day that this build made: (period, first, last), as dates. #}
{% macro built_periods() %}
    {%- set periods = [] -%}
    {%- for first, last in crmcom_transforms.built_parts() -%}
        {%- for offset in range((last - first).days + 1) -%}
            {%- set day = first + modules.datetime.timedelta(days=offset) -%}
            {%- if day.weekday() == 6 -%}
                {%- do periods.append(('week', day - modules.datetime.timedelta(days=6), day)) -%}
            {%- endif -%}
            {%- if (day + modules.datetime.timedelta(days=1)).day == 1 -%}
                {%- do periods.append(('month', day.replace(day=1), day)) -%}
            {%- endif -%}
        {%- endfor -%}
    {%- endfor -%}
    {%- set first, last = crmcom_transforms.built_days() -%}
    {#- Where none did, one without days. -#}
    {{ return(periods or [('week', last, last - modules.datetime.timedelta(days=1))]) }}
{% endmacro %}


{# A date, in SQL; `days` later. #}
{% macro sql_date(day, days=0) -%}
    cast('{{ day + modules.datetime.timedelta(days=days) }}' as date)
{%- endmacro %}


{#
    One test of several that look at a part each, one after the other: the first that finds a row,
    else the last.
#}
{% macro first_to_fail(tests) %}
    {%- for sql in tests[:-1] if execute -%}
        {%- if run_query('select 1 from (' ~ sql ~ ') as part limit 1').rows -%}
            {{ return(sql) }}
        {%- endif -%}
    {%- endfor -%}
    {{ return(tests[-1]) }}
{% endmacro %}
