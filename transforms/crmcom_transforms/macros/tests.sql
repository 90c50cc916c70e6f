{#
    What a test looks at: all rows of a model, or, for a model that is built day by day, those
    of the days that this build made, so that a daily run tests a day and not its history.
#}
{% macro tested_rows(model, only_planned_days) -%}
    {%- if only_planned_days -%}
        (
            select days.*
            from {{ model }} as days
            inner join {{ ref('int_crmcom__account_daily_plan') }} as planned
                on
                    days.source_relation = planned.source_relation
                    and days.date_day >= planned.build_from
        ) as tested
    {%- else -%}
        {{ model }} as tested
    {%- endif -%}
{%- endmacro %}


{#
    The first and the last day that this build made, for a test of a view: as literals, so that
    the view is computed for the days that are tested and no others.
#}
{% macro first_built_day() -%}
    {{ crmcom_transforms.planned_day('min(build_from)') }}
{%- endmacro %}

{% macro last_built_day() -%}
    {{ crmcom_transforms.planned_day('max(as_of_date)') }}
{%- endmacro %}

{% macro planned_day(expression) -%}
    {%- set plan = ref('int_crmcom__account_daily_plan') -%}
    {%- if execute -%}
        {%- set day = run_query('select ' ~ expression ~ ' from ' ~ plan).columns[0].values()[0] -%}
    {%- endif -%}
    {#- Without any accounts, no day. -#}
    cast('{{ day or '9999-12-31' }}' as date)
{%- endmacro %}
