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
